// Values read from JSON: {"type":"tensor","data_type":"float32","shape":[1,3],"value":[1,2,3]} and its kin.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <simdjson.h>

#include <string>
#include <vector>

#include "../servable.h"

// A JSON document. `text` must live as long as it does, and have 64 bytes of room behind its end.
// Throws RequestError(400) where it is not JSON.
class Json {
 public:
  explicit Json(std::string& text, std::size_t size);
  explicit Json(std::string& text) : Json(text, text.size()) {}
  Json(const Json&) = delete;
  Json& operator=(const Json&) = delete;
  ~Json();
  simdjson::dom::element root() const { return root_; }

 private:
  simdjson::dom::element root_;
};

// Where in a document something stands; written out only for an error.
struct Place {
  const Place* above = nullptr;
  const char* name = nullptr;
  std::size_t index = 0;
  std::string text() const;
};

[[noreturn]] void wrong(const Place& place, const std::string& fact);

// The value of `json`, as the type that is wanted (null: as it comes). Throws RequestError(400) with the place.
c10::IValue read_value(simdjson::dom::element json, const c10::TypePtr& wanted, const Place& place, int depth = 0);

// The elements of a tensor, flat or nested as its shape is.
at::Tensor read_tensor(c10::ScalarType dtype, const std::vector<int64_t>& shape, simdjson::dom::element elements, const Place& place);

// Sizes that are whole, not negative and not too large.
std::vector<int64_t> read_shape(simdjson::dom::element json, const Place& place);

// The arguments of a call: an array.
std::vector<c10::IValue> read_arguments(simdjson::dom::element json, const Signature& signature);
