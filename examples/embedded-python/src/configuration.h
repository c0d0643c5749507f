// What CMake found (generated) and what the environment overrides.
#pragma once

#include "namespace.h"

namespace torch::deploy::detail {

extern const char* const kSupportSource;  // support.py
extern const char* const kWorkerSource;   // worker.py

/// The interpreter to embed. Throws InterpreterError.
Installation find_installation();

}  // namespace torch::deploy::detail
