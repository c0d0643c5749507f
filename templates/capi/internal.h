// What the two halves of the library share: handles, errors, and what a model is to the functions of torchmodel.h.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "torchmodel.h"

// A failure with the status that the caller is given.
class Failure : public std::runtime_error {
 public:
  Failure(tm_status status, const std::string& message) : std::runtime_error(message), status(status) {}
  const tm_status status;
};

struct tm_value {
  c10::IValue value;
  int depth = 0; // at most so many lists, tuples and dicts in each other, of those that the caller has made
};

inline c10::Device device_named(const std::string& name) {
  try {
    return c10::Device(name);
  } catch (const c10::Error&) {
    throw Failure(TM_ERROR_ARGUMENT, "there is no device " + name);
  }
}

using Values = std::vector<c10::IValue>;
using Keywords = std::unordered_map<std::string, c10::IValue>;

// A method, with the text that tm_argument points to.
struct Method {
  struct Argument {
    std::string name, type, default_text;
    c10::IValue fallback;
    bool has_default = false, keyword_only = false;
  };
  std::string name, returns;
  std::vector<Argument> arguments;
};

struct tm_model {
  virtual ~tm_model() = default;
  virtual c10::IValue call(const std::string& method, Values arguments, const Keywords& keywords) const = 0;

  // A shape that fits many models of this kind; see tm_model_example_shape.
  virtual std::vector<int64_t> example_shape(size_t index) const = 0;

  std::vector<Method> methods; // filled when the model is loaded, unchanged afterwards

  const Method& method(const char* name) const {
    for (const Method& each : methods) {
      if (each.name == name) return each;
    }
    std::string others;
    for (const Method& each : methods) others += (others.empty() ? "; it has " : ", ") + each.name;
    throw Failure(TM_ERROR_ARGUMENT, std::string("the model has no method named ") + name + others);
  }
};

// The end of a file, of at most `most` bytes; `start` gets its first 8. Throws Failure where it cannot be read.
std::string end_of_file(const std::string& path, size_t most, std::string& start);

// The names of a zip archive's entries, from its end; none where it is no archive. Throws Failure where it is cut off.
std::vector<std::string> entries_of(const std::string& path, const char* data, size_t size);

// The names of the models in an AOTInductor package with these entries; none where it is no package.
std::vector<std::string> models_among(const std::vector<std::string>& entries);

// Throws a Failure that says what a file is, where these entries are not those of a TorchScript model.
void refuse_other_kinds(const std::string& path, const std::string& start, const std::vector<std::string>& entries);

// `name` is empty where the caller gave none. `device` is null likewise.
std::unique_ptr<tm_model> load_package(const std::string& path, const std::vector<std::string>& models, const std::string& name, const char* device);
