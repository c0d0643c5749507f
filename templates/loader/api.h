// Which of libtorch's C++ interfaces this is, told by its headers, and what an older one calls otherwise.
// From 1.11 on nothing is included for it.
#pragma once

// One operator's header where one is needed, not all two thousand (torch 1.11 and later; before, no effect).
#define AT_PER_OPERATOR_HEADERS

#if __has_include(<ATen/core/class_type.h>)
#define LOADER_API 111 // 1.11 and later
#elif __has_include(<torch/csrc/jit/api/module.h>)
#define LOADER_API 105 // 1.5 to 1.10
#elif __has_include(<ATen/core/List.h>)
#define LOADER_API 102 // 1.2 to 1.4: modules are in torch::jit::script, a list has one of five tags
#else
#define LOADER_API 101 // 1.1: lists are vectors, a dict is an unordered map, `load` returns a shared_ptr
#endif

#if LOADER_API >= 111
#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/GradMode.h>

namespace api = at;
using c10::AutoGradMode;
#else
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/script.h>

namespace api = torch; // before 1.5 a model takes no tensor that is not made here
using torch::autograd::AutoGradMode;
#endif
