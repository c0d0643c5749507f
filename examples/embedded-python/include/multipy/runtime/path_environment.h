// The interpreter's own site-packages, followed by another directory of Python modules.
#pragma once

#include <multipy/runtime/environment.h>

#include <string>

namespace torch {
namespace deploy {

class PathEnvironment : public Environment {
 public:
  explicit PathEnvironment(std::string path);
  /// The result of std::getenv: a null pointer adds no directory.
  explicit PathEnvironment(const char* path) : PathEnvironment(std::string(path ? path : "")) {}

  void configureInterpreter(Interpreter* interpreter) override;
};

}  // namespace deploy
}  // namespace torch
