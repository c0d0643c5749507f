// Which tensors a compiled model takes, from what it says of wrong ones: with AOTI_RUNTIME_CHECK_INPUTS=1 it checks
// dtype, sizes, strides and device of each, in this order, before it does anything.
#pragma once

#include "api.h"

#include <ATen/ops/empty_strided.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.h"
#include "tensors.h"

inline void check_inputs() {
#ifdef _WIN32
  _putenv_s("AOTI_RUNTIME_CHECK_INPUTS", "1");
#else
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1);
#endif
}

// While it lives, what is written to std::cerr is kept, too. A compiled model throws inside its library; libtorch
// throws again without the sentence, which the library has printed.
class KeptErrors {
 public:
  KeptErrors() : before_(std::cerr.rdbuf(kept_.rdbuf())) {}
  ~KeptErrors() {
    std::cerr.rdbuf(before_);
  }
  KeptErrors(const KeptErrors&) = delete;
  KeptErrors& operator=(const KeptErrors&) = delete;
  std::string text() const {
    return kept_.str();
  }

 private:
  std::ostringstream kept_;
  std::streambuf* before_;
};

// The results; what the model itself says is the message of what is thrown.
inline std::vector<at::Tensor> run(torch::inductor::AOTIModelContainerRunner& runner, std::vector<at::Tensor>& tensors) {
  std::string said;
  try {
    const KeptErrors kept;
    try {
      return runner.run(tensors);
    } catch (const std::exception&) {
      said = kept.text();
      throw;
    }
  } catch (const std::exception& error) {
    const size_t at = said.find("Error: ");
    if (at == std::string::npos) throw;
    const std::string sentence = said.substr(at + 7);
    throw std::runtime_error(sentence.substr(0, sentence.find('\n')));
  }
}

// One tensor that a model takes, as far as it is known.
struct Asked {
  static const size_t most = 12; // dimensions
  c10::ScalarType dtype = c10::ScalarType::Float;
  Sizes sizes = Sizes(most, 0), strides = Sizes(most, int64_t(1) << 40); // a stride that nothing asks for
  std::vector<bool> dynamic = std::vector<bool>(most, false);
  size_t dimensions = 0; // that were spoken of

  void saw(size_t dimension) {
    if (dimension >= most) throw std::runtime_error("the model takes a tensor of too many dimensions");
    dimensions = std::max(dimensions, dimension + 1);
  }

  // Everything is told: what was not spoken of has any size, and the strides that follow from the sizes.
  void finish() {
    sizes.resize(dimensions);
    dynamic.resize(dimensions);
    strides.resize(dimensions);
    int64_t next = 1;
    for (size_t i = dimensions; i-- > 0;) {
      if (sizes[i] == 0) {
        sizes[i] = 2;
        dynamic[i] = true;
      }
      if (strides[i] == int64_t(1) << 40) strides[i] = next;
      next = strides[i] * sizes[i];
    }
  }

  at::Tensor made(c10::Device device) const {
    return at::empty_strided(sizes, strides, at::TensorOptions(dtype).device(device));
  }

  std::string json() const {
    std::vector<std::string> shape, steps, open;
    for (size_t i = 0; i < sizes.size(); ++i) {
      shape.push_back(json_number(static_cast<long long>(sizes[i])));
      steps.push_back(json_number(static_cast<long long>(strides[i])));
      if (dynamic[i]) open.push_back(json_number(static_cast<long long>(i)));
    }
    JsonObject out;
    out.add("dtype", json_string(dtype_name(dtype))).add("shape", json_array(shape));
    return out.add("strides", json_array(steps)).add("dynamic", json_array(open)).text();
  }
};

// As JSON. `count` is how many there are, or a few more. The tensors under study are on no device, so that the model never gets
// past its checks.
inline std::string inputs_of(torch::inductor::AOTIModelContainerRunner& runner, c10::Device device, size_t count) {
  const c10::Device nowhere(c10::DeviceType::Meta);
  std::vector<Asked> asked(count);
  size_t known = 0; // how many are finished
  std::string before;
  for (int tries = 0; known < asked.size() && tries < 4096; ++tries) {
    std::vector<at::Tensor> tensors;
    for (size_t i = 0; i < asked.size(); ++i) tensors.push_back(asked[i].made(i < known ? device : nowhere));
    std::string said;
    try {
      run(runner, tensors);
      throw std::runtime_error("the model does not check its inputs");
    } catch (const std::exception& error) {
      said = error.what();
    }
    size_t input = 0, dimension = 0;
    long long number = 0;
    const char* text = std::strstr(said.c_str(), "input_handles[");
    if (text == nullptr) {
      const char* const size = std::strstr(said.c_str(), "inputs vector size to be ");
      if (size == nullptr || std::sscanf(size, "inputs vector size to be %lld", &number) != 1 || number < 0 || number > 100000 || said == before) throw std::runtime_error(said);
      asked.resize(static_cast<size_t>(number));
      before = said;
      continue;
    }
    if (std::sscanf(text, "input_handles[%zu]", &input) != 1 || input >= asked.size() || said == before) throw std::runtime_error(said);
    before = said;
    Asked& one = asked[input];
    if (std::sscanf(text, "input_handles[%*u]: unmatched dtype, expected: %lld", &number) == 1) {
      one.dtype = static_cast<c10::ScalarType>(number);
    } else if (std::sscanf(text, "input_handles[%*u]: unmatched dim value at %zu, expected: %lld", &dimension, &number) == 2) {
      one.saw(dimension);
      one.sizes[dimension] = number;
    } else if (std::sscanf(text, "input_handles[%*u]: dim value is too small at %zu, expected it to be >= %lld", &dimension, &number) == 2) {
      one.saw(dimension);
      one.sizes[dimension] = std::max<long long>(number, 2);
      one.dynamic[dimension] = true;
    } else if (std::sscanf(text, "input_handles[%*u]: dim value is too large at %zu, expected to be <= %lld", &dimension, &number) == 2) {
      one.saw(dimension);
      one.sizes[dimension] = number;
    } else if (std::sscanf(text, "input_handles[%*u]: unmatched stride value at %zu, expected: %lld", &dimension, &number) == 2) {
      one.saw(dimension);
      one.strides[dimension] = number;
    } else if (std::strstr(text, "unmatched device type") != nullptr && input == known) {
      one.finish();
      ++known;
    } else {
      throw std::runtime_error(said);
    }
  }
  std::vector<std::string> all;
  for (const Asked& one : asked) all.push_back(one.json());
  return json_array(all);
}
