// The names of dtypes: torch's own, and those of the Open Inference Protocol.
#pragma once

#include <c10/core/ScalarType.h>

#include <cctype>
#include <string>
#include <string_view>
#include <utility>

// As Python prints them: c10's name in lower case where the two do not differ.
inline std::string dtype_name(c10::ScalarType type) {
  static const std::pair<const char*, const char*> names[] = {
      {"Byte", "uint8"}, {"Char", "int8"}, {"Short", "int16"}, {"Int", "int32"}, {"Long", "int64"},
      {"Half", "float16"}, {"Float", "float32"}, {"Double", "float64"}, {"ComplexHalf", "complex32"},
      {"ComplexFloat", "complex64"}, {"ComplexDouble", "complex128"}};
  std::string name = c10::toString(type);
  for (const auto& pair : names) {
    if (name == pair.first) return pair.second;
  }
  for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return name;
}

// Undefined where there is none, or where its elements are no plain numbers.
inline c10::ScalarType dtype_named(std::string_view name) {
  if (name == "half") name = "float16";
  if (name == "float") name = "float32";
  if (name == "double") name = "float64";
  if (name == "int") name = "int32";
  if (name == "long") name = "int64";
  for (int i = 0; i < static_cast<int>(c10::ScalarType::NumOptions); ++i) {
    const auto type = static_cast<c10::ScalarType>(i);
    const std::string known = dtype_name(type);
    if (known != name) continue;
    const bool plain = known.compare(0, 3, "int") == 0 || known.compare(0, 4, "uint") == 0 || known.compare(0, 5, "float") == 0 ||
        known.compare(0, 7, "complex") == 0 || known == "bool" || known == "bfloat16";
    const bool narrow = known == "uint1" || known == "int1" || (known.size() == 5 && known[4] < '8' && known.compare(0, 4, "uint") == 0) ||
        (known.size() == 4 && known[3] < '8' && known.compare(0, 3, "int") == 0) || known.find("_x2") != std::string::npos;
    return plain && !narrow ? type : c10::ScalarType::Undefined;
  }
  return c10::ScalarType::Undefined;
}

struct ProtocolDtype {
  const char* protocol;
  const char* torch;
};

inline constexpr ProtocolDtype protocol_dtypes[] = {
    {"BOOL", "bool"},   {"UINT8", "uint8"}, {"UINT16", "uint16"}, {"UINT32", "uint32"}, {"UINT64", "uint64"}, {"INT8", "int8"},    {"INT16", "int16"},
    {"INT32", "int32"}, {"INT64", "int64"}, {"FP16", "float16"},  {"FP32", "float32"},  {"FP64", "float64"},  {"BF16", "bfloat16"}};

// Empty where there is none.
inline std::string protocol_name(std::string_view torch) {
  for (const ProtocolDtype& each : protocol_dtypes) {
    if (torch == each.torch) return each.protocol;
  }
  return "";
}

inline std::string torch_name(std::string_view protocol) {
  for (const ProtocolDtype& each : protocol_dtypes) {
    if (protocol == each.protocol) return each.torch;
  }
  return "";
}
