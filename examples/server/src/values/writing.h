// Values written as JSON, in the form that reading.h reads.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>

void append_value(std::string& out, const c10::IValue& value, int depth = 0);

// The elements alone, `[1.0,2.0]`: row-major.
void append_elements(std::string& out, const at::Tensor& tensor);

// With every element in memory: dense, on the CPU, contiguous, not quantized.
at::Tensor plain(const at::Tensor& tensor);
