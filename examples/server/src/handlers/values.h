// Values of any type as bytes, for the other process: their structure as libtorch pickles it, and the tensors' elements.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>

std::string packed(const c10::IValue& value);

// Throws WireError where the bytes are not such.
c10::IValue unpacked(const std::string& bytes);
