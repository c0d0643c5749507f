// The interpreter's own site-packages, and nothing else.
#pragma once

#include <multipy/runtime/environment.h>

namespace torch {
namespace deploy {

class NoopEnvironment : public Environment {
 public:
  void configureInterpreter(Interpreter*) override {}
};

}  // namespace deploy
}  // namespace torch
