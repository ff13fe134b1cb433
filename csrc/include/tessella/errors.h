// What goes wrong, and whose mistake it was. The bindings turn each kind into its Python class.
#pragma once

#include <stdexcept>
#include <string>

namespace tessella {

enum class ErrorKind { kInvalidArgument, kUnsupportedType, kDeviceUnavailable, kCuda, kFormat };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace tessella
