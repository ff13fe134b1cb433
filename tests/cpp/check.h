// The few words our C++ tests need: TEST(name) { ... } registers, CHECK(condition) counts and reports.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Register {
  Register(const char* name, std::function<void()> body) { tests().push_back({name, std::move(body)}); }
};

inline void that(bool ok, const char* text, const char* file, int line) {
  if (ok) return;
  ++failures();
  std::printf("%s:%d: expected %s\n", file, line, text);
}

// The message of the error that `body` throws, or "" where it throws none.
template <typename Error>
std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace check

#define TEST(name)                                                   \
  static void test_##name();                                         \
  static const check::Register kRegister_##name(#name, test_##name); \
  static void test_##name()
#define CHECK(condition) check::that((condition), #condition, __FILE__, __LINE__)
