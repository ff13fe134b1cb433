// Runs every registered test, or those whose names contain the first argument.
#include <cstring>

#include "check.h"

int main(int argc, char** argv) {
  int run = 0, failed = 0;
  for (const check::Test& test : check::tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    const int before = check::failures();
    test.body();
    ++run;
    failed += check::failures() != before;
    std::printf("%s %s\n", check::failures() != before ? "FAILED" : "ok    ", test.name);
  }
  std::printf("%d passed, %d failed\n", run - failed, failed);
  return failed != 0 || run == 0;
}
