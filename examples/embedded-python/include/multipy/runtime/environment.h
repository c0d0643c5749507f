// What an interpreter's surroundings are: which directories its modules come from.
#pragma once

#include <string>
#include <vector>

namespace torch {
namespace deploy {

class Interpreter;

class Environment {
 public:
  virtual ~Environment() = default;

  /// Directories that are added to the end of each interpreter's sys.path before torch is imported.
  virtual const std::vector<std::string>& getExtraPythonPaths() { return extraPythonPaths_; }

  /// Called once for each interpreter, after torch was imported in it.
  virtual void configureInterpreter(Interpreter* interpreter) = 0;

 protected:
  std::vector<std::string> extraPythonPaths_;
};

}  // namespace deploy
}  // namespace torch
