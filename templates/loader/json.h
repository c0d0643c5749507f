// JSON text, one value at a time, and the percent encoding of the protocol. Nothing of torch.
#pragma once

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

// How many bytes of valid UTF-8 start here, 0 if the byte at `at` starts none.
inline size_t utf8_length(const std::string& text, size_t at) {
  const unsigned char first = static_cast<unsigned char>(text[at]);
  const size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = length > 1 ? static_cast<unsigned char>(text[at + 1]) : 0;
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate_or_beyond = (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);
  return overlong || surrogate_or_beyond ? 0 : length;
}

// A string with its quotes; bytes that are not UTF-8 become U+FFFD.
inline std::string json_string(const std::string& text) {
  std::string out = "\"";
  const char* const bytes = text.data();
  for (size_t i = 0; i < text.size();) {
    size_t plain = i; // as they are in one go: a graph has thousands, and loaders are compiled without optimisation
    while (plain < text.size() && bytes[plain] >= 0x20 && bytes[plain] < 0x7F && bytes[plain] != '"' && bytes[plain] != '\\') ++plain;
    if (plain > i) {
      out.append(bytes + i, plain - i);
      i = plain;
      continue;
    }
    const size_t length = utf8_length(text, i);
    const unsigned char byte = static_cast<unsigned char>(text[i]);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[i];
    } else if (byte < 0x20 || byte == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", byte);
      out += escape;
    } else {
      out.append(text, i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return out + '"';
}

// The shortest decimal that reads back as the same float or double, with a point if it is whole: readers of
// JSON distinguish 2.0 from 2. JSON cannot express non-finite numbers: they are the strings "nan", "inf" and "-inf".
inline std::string json_number(double value, bool single = false) {
  if (std::isnan(value)) return "\"nan\"";
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  char text[40];
  for (int digits = single ? 6 : 15; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    const bool same = single ? std::strtof(text, nullptr) == static_cast<float>(value) : std::strtod(text, nullptr) == value;
    if (same) break;
  }
  const std::string out = text;
  return out.find_first_of(".e") == std::string::npos ? out + ".0" : out;
}

// As the marshalling of docs/values.md writes what is not finite.
inline std::string marshalled_number(double value, bool single = false) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  return json_number(value, single);
}

inline std::string json_number(long long value) {
  return std::to_string(value);
}

// An object under construction: `JsonObject().add("ok", "true").text()`; the values are JSON text already.
class JsonObject {
 public:
  JsonObject& add(const std::string& key, const std::string& json) {
    body_ += (body_.empty() ? "" : ",") + json_string(key) + ":" + json;
    return *this;
  }
  std::string text() const {
    return "{" + body_ + "}";
  }

 private:
  std::string body_;
};

// `[a,b]` of anything that holds JSON texts.
template <typename Texts>
std::string json_array(const Texts& texts) {
  std::string body;
  for (const std::string& text : texts) body += (body.empty() ? "" : ",") + text;
  return "[" + body + "]";
}

// `a%20b` -> `a b`. Anything but a percent sign before two hexadecimal digits stays as it is.
inline std::string percent_decoded(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool code = text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
        std::isxdigit(static_cast<unsigned char>(text[i + 2]));
    out += code ? static_cast<char>(std::strtol(text.substr(i + 1, 2).c_str(), nullptr, 16)) : text[i];
    i += code ? 2 : 0;
  }
  return out;
}
