// What the interpreters throw.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace torch {
namespace deploy {

/// An exception that Python raised. what() is its traceback, as Python prints it; where a package was read, its path comes first.
class PythonError : public std::runtime_error {
 public:
  PythonError(std::string type, std::string message, const std::string& traceback)
      : std::runtime_error(traceback), type_(std::move(type)), message_(std::move(message)) {}
  /// The exception's class: "ValueError", "my_package.MyError".
  const std::string& type() const noexcept { return type_; }
  /// str() of the exception.
  const std::string& message() const noexcept { return message_; }

 private:
  std::string type_;
  std::string message_;
};

/// An interpreter could not be started or has died, or an object was used in the wrong interpreter.
class InterpreterError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace deploy
}  // namespace torch
