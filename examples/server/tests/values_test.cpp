// Values as JSON and back.
#include <cstdio>

#include "../src/values/reading.h"
#include "../src/values/writing.h"

namespace {

int failures = 0;

std::string answer(std::string text) {
  try {
    const Json json(text);
    std::string out;
    append_value(out, read_value(json.root(), nullptr, Place{}));
    return out;
  } catch (const RequestError& error) {
    return error.what();
  }
}

void expect(const std::string& given, const std::string& wanted) {
  const std::string found = answer(given);
  if (found == wanted) return;
  ++failures;
  std::printf("%s\n  gives %s\n  not   %s\n", given.c_str(), found.c_str(), wanted.c_str());
}

void same(const std::string& text) { expect(text, text); }

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& value) {
  return R"({"type":"tensor","data_type":")" + dtype + R"(","shape":)" + shape + R"(,"value":)" + value + "}";
}

}  // namespace

int main() {
  same(tensor("float32", "[1,3]", R"([0.1,"NaN","-Infinity"])"));
  same(tensor("float64", "[2]", "[0.1,1e-300]"));
  same(tensor("bfloat16", "[1]", "[1.5]"));
  same(tensor("int64", "[2]", "[-9223372036854775808,9223372036854775807]"));
  same(tensor("bool", "[2]", "[true,false]"));
  same(tensor("complex64", "[1]", "[[1.0,-2.5]]"));
  same(tensor("float32", "[0,4]", "[]"));
  same(R"({"type":"generic_dict","value":{"a":{"type":"none"},"b":{"type":"string","value":"\u0000é"}}})");
  same(R"({"type":"tuple","value":[{"type":"scalar","data_type":"int64","value":1},{"type":"scalar","data_type":"float64","value":2.0}]})");
  same(R"({"type":"dict","value":[[{"type":"scalar","data_type":"int64","value":1},{"type":"string","value":"x"}]]})");
  expect(tensor("int32", "[2,2]", "[[1,2],[3,4]]"), tensor("int32", "[2,2]", "[1,2,3,4]"));
  expect(tensor("float32", "[]", "7"), tensor("float32", "[]", "[7.0]"));
  expect("[1,2]", R"([{"type":"scalar","data_type":"int64","value":1},{"type":"scalar","data_type":"int64","value":2}])");
  expect(tensor("uint8", "[1]", "[300]"), "at $.value[0]: 300 does not fit uint8");
  expect(tensor("float32", "[2]", "[1]"), "at $.value: 1 element, but the shape has 2");
  expect(tensor("float32", "[-1]", "[1]"), "at $.shape: -1 is a negative size");
  expect(tensor("float32", "[1099511627776]", "[1]"), "at $.value: fewer elements than the 1099511627776 of the shape");
  expect(tensor("float23", "[1]", "[1]"), "at $: data_type 'float23' is unknown: write one of torch's names, as float32");
  expect(std::string(70, '[') + std::string(70, ']'), "a value is nested more than 64 levels deep");
  expect(R"({"type":"image","value":"iVBORw0KGgo="})", "at $.value: a damaged PNG image: it ends too early");
  if (failures == 0) std::printf("all values are right\n");
  return failures == 0 ? 0 : 1;
}
