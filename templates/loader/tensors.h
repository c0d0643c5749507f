// Tensors: the names of their dtypes, made by a rule, read from a file, summed up.
#pragma once

#include "api.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.h"

using Sizes = std::vector<int64_t>;

// c10's names of dtypes and those that Python prints. What is not here goes by c10's name in lower case.
inline std::string dtype_name(c10::ScalarType type) {
  static const char* const names[][2] = {
      {"Byte", "uint8"}, {"Char", "int8"}, {"Short", "int16"}, {"Int", "int32"}, {"Long", "int64"},
      {"Half", "float16"}, {"Float", "float32"}, {"Double", "float64"}, {"ComplexHalf", "complex32"},
      {"ComplexFloat", "complex64"}, {"ComplexDouble", "complex128"}};
  std::string name = c10::toString(type);
  for (const auto& pair : names) {
    if (name == pair[0]) return pair[1];
  }
  for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return name;
}

inline c10::ScalarType dtype_named(const std::string& name) {
  for (int i = 0; i < static_cast<int>(c10::ScalarType::NumOptions); ++i) {
    const c10::ScalarType type = static_cast<c10::ScalarType>(i);
    if (type != c10::ScalarType::Undefined && dtype_name(type) == name) return type;
  }
  throw std::runtime_error("this libtorch has no dtype " + name);
}

inline bool is_integral(c10::ScalarType type) { // bool counts
#if LOADER_API == 101
  return type == c10::ScalarType::Bool || c10::isIntegralType(type);
#else
  return c10::isIntegralType(type, true);
#endif
}

// The parts of `text` between separators: `1x3x224` with 'x'.
inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char letter : text) {
    if (letter == separator) {
      parts.emplace_back();
    } else {
      parts.back() += letter;
    }
  }
  return parts;
}

inline int64_t whole(const std::string& text) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') throw std::runtime_error("'" + text + "' is no whole number");
  return value;
}

inline double real(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') throw std::runtime_error("'" + text + "' is no number");
  return value;
}

// `1x3x224`; `-` is the shape of a 0-dim tensor.
inline Sizes sizes_from(const std::string& text) {
  Sizes sizes;
  if (text == "-") return sizes;
  for (const std::string& part : split(text, 'x')) sizes.push_back(whole(part));
  return sizes;
}

inline int64_t element_count(const Sizes& sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) {
    if (size < 0 || (size > 0 && count > (int64_t(1) << 40) / size)) throw std::runtime_error("a tensor of that shape is too large");
    count *= size;
  }
  return count;
}

// splitmix64: the same numbers for a seed on every libtorch and every machine.
class Random {
 public:
  explicit Random(int64_t seed) : state_(static_cast<uint64_t>(seed)) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  double uniform() { // in [0, 1)
    return static_cast<double>(bits() >> 11) / 9007199254740992.0;  // 2^53
  }
  double normal() { // Box and Muller
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  uint64_t state_;
};

template <typename Number, typename Draw>
at::Tensor drawn(const Sizes& sizes, c10::ScalarType as, c10::ScalarType to, int64_t numbers, const Draw& draw) {
  std::vector<Number> values(static_cast<size_t>(numbers));
  for (int64_t i = 0; i < numbers; ++i) values[static_cast<size_t>(i)] = draw(i);
  return api::from_blob(values.data(), sizes, at::TensorOptions(as)).to(to, false, /*copy=*/true);
}

// zeros | ones | arange | full:V | rand:SEED | randn:SEED | randint:LOW:HIGH:SEED
inline at::Tensor filled(c10::ScalarType dtype, const Sizes& sizes, const std::string& rule) {
  const std::vector<std::string> words = split(rule, ':');
  const std::string kind = words[0];
  const size_t wanted = kind == "randint" ? 4 : kind == "full" || kind == "rand" || kind == "randn" ? 2 : 1;
  if (words.size() != wanted) throw std::runtime_error("'" + rule + "' is no way to fill a tensor");
  const int64_t count = element_count(sizes);
  const bool complex = c10::isComplexType(dtype);
  Random random(kind == "full" || wanted == 1 ? 0 : whole(words.back()));
  if (kind == "rand" || kind == "randn") {
    const bool normal = kind == "randn";
    const c10::ScalarType as = complex ? c10::ScalarType::ComplexDouble : c10::ScalarType::Double;
    return drawn<double>(sizes, as, dtype, complex ? 2 * count : count, [&](int64_t) { return normal ? random.normal() : random.uniform(); });
  }
  if (kind == "full" && !is_integral(dtype)) {
    const double value = real(words[1]);
    return drawn<double>(sizes, c10::ScalarType::Double, dtype, count, [&](int64_t) { return value; });
  }
  int64_t low = kind == "ones" ? 1 : 0, span = 1;
  if (kind == "full") low = whole(words[1]);
  if (kind == "randint") {
    low = whole(words[1]);
    span = whole(words[2]) - low;
  } else if (kind != "zeros" && kind != "ones" && kind != "arange" && kind != "full") {
    throw std::runtime_error("'" + rule + "' is no way to fill a tensor");
  }
  if (span < 1) throw std::runtime_error("randint needs LOW below HIGH");
  const bool counts = kind == "arange", draws = kind == "randint";
  return drawn<int64_t>(sizes, c10::ScalarType::Long, dtype, count, [&](int64_t i) {
    return counts ? i : draws ? low + static_cast<int64_t>(random.bits() % static_cast<uint64_t>(span)) : low;
  });
}

// Memory for a tensor's elements, which the tensor then owns; aligned as libtorch's own is.
struct Buffer {
  explicit Buffer(size_t bytes) : size(bytes), owner(new char[bytes + alignment], std::default_delete<char[]>()) {
    const size_t beyond = reinterpret_cast<uintptr_t>(owner.get()) % alignment;
    begin = owner.get() + (beyond == 0 ? 0 : alignment - beyond);
  }
  at::Tensor as_tensor(c10::ScalarType dtype, const Sizes& sizes, const Sizes& strides) const {
    const std::shared_ptr<char> kept = owner;
    return api::from_blob(begin, sizes, strides, [kept](void*) {}, at::TensorOptions(dtype));
  }
  static const size_t alignment = 64;
  size_t size;
  std::shared_ptr<char> owner;
  char* begin;
};

inline bool seek(FILE* file, int64_t offset) {
#ifdef _WIN32
  return _fseeki64(file, offset, SEEK_SET) == 0; // a long has 32 bits there
#else
  return std::fseek(file, static_cast<long>(offset), SEEK_SET) == 0;
#endif
}

inline int hex_digit(char letter) {
  return letter >= '0' && letter <= '9' ? letter - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

// Raw little-endian elements of a file from byte `offset` on; strides are in elements.
inline at::Tensor from_file(c10::ScalarType dtype, const Sizes& sizes, int64_t offset, const Sizes& strides, const std::string& path) {
  if (strides.size() != sizes.size() || offset < 0) throw std::runtime_error("shape and strides do not fit together");
  int64_t elements = element_count(sizes) == 0 ? 0 : 1; // from the first to the last, both included
  for (size_t i = 0; i < sizes.size() && elements > 0; ++i) {
    if (strides[i] < 0) throw std::runtime_error("a stride is negative");
    if (sizes[i] > 1) elements += element_count({sizes[i] - 1, strides[i]});
  }
  const Buffer bytes(static_cast<size_t>(elements) * c10::elementSize(dtype));
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("cannot open " + path);
  const bool whole_read = seek(file, offset) && std::fread(bytes.begin, 1, bytes.size, file) == bytes.size;
  std::fclose(file);
  if (!whole_read) throw std::runtime_error(path + " is shorter than its tensor");
  return bytes.as_tensor(dtype, sizes, strides);
}

// Little-endian elements in row-major order, two hexadecimal digits a byte, from letter `start` of a text on.
inline at::Tensor from_hex(c10::ScalarType dtype, const Sizes& sizes, const std::string& text, size_t start) {
  Sizes strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * (sizes[i] > 1 ? sizes[i] : 1);
  const Buffer bytes(static_cast<size_t>(element_count(sizes)) * c10::elementSize(dtype));
  if (text.size() - start != 2 * bytes.size) throw std::runtime_error("a tensor has not as many bytes as its shape says");
  for (size_t i = 0; i < bytes.size; ++i) {
    const int high = hex_digit(text[start + 2 * i]), low = hex_digit(text[start + 2 * i + 1]);
    if (high < 0 || low < 0) throw std::runtime_error("a tensor's bytes are not hexadecimal");
    bytes.begin[i] = static_cast<char>(high * 16 + low);
  }
  return bytes.as_tensor(dtype, sizes, strides);
}

// Every element in row-major order on the CPU, as Number (int64_t, double, or double pairs for complex).
template <typename Number>
struct Elements {
  Elements(const at::Tensor& tensor, c10::ScalarType as)
      : kept(tensor.to(at::Device(at::kCPU)).to(as, false, /*copy=*/true).contiguous()),
        begin(static_cast<const Number*>(kept.data_ptr())),
        count(kept.numel()) {}
  at::Tensor kept;
  const Number* begin;
  int64_t count;
};

// Calls `each(index, pointer)` for every element in that order, piece by piece: converting all of a large tensor at
// once would take eight times its memory.
template <typename Number, typename Each>
void for_elements(const at::Tensor& tensor, c10::ScalarType as, int64_t numbers, const Each& each) {
  const int64_t piece = int64_t(1) << 20, count = tensor.numel();
  const at::Tensor flat = tensor.reshape({-1});
  for (int64_t start = 0; start < count; start += piece) {
    const Elements<Number> part(flat.narrow(0, start, count - start < piece ? count - start : piece), as);
    for (int64_t i = 0; i < part.count; ++i) each(start + i, part.begin + numbers * i);
  }
}

#if LOADER_API == 101
inline bool quantized(const at::Tensor&) {
  return false;
}
#else
inline bool quantized(const at::Tensor& tensor) {
  return tensor.is_quantized();
}
#endif

// Bytes that are made of fewer at most: an expanded or sparse tensor may have 2^40 elements, and memory for one.
const int64_t most_made = int64_t(1) << 32;

// Raises where the elements of a tensor, one after the other, would take more than that, and take less where they are.
inline void check_made(const at::Tensor& tensor) {
  double bytes = 0;
  try {
    double held = 1; // elements from the first to the last
    if (tensor.layout() == at::kStrided) {
      for (int64_t i = 0; i < tensor.dim(); ++i) held += static_cast<double>(tensor.size(i) - 1) * static_cast<double>(tensor.stride(i));
#if LOADER_API > 101
    } else if (tensor.is_mkldnn()) {
      return;
#endif
    }
    const double elements = static_cast<double>(tensor.numel());
    if (elements > held) bytes = elements * static_cast<double>(c10::elementSize(tensor.scalar_type()));
  } catch (const std::exception&) { // a nested tensor has neither
    return;
  }
  if (bytes <= static_cast<double>(most_made)) return;
  char text[200];
  std::snprintf(text, sizeof text, "a tensor that is %s would take %.6g GiB, above the limit of %lld GiB",
      tensor.layout() == at::kStrided ? "expanded or overlaps itself" : "sparse", bytes / (1 << 30), static_cast<long long>(most_made >> 30));
  throw std::runtime_error(text);
}

// The tensor with every element in memory, as other kinds of layout do not have them.
inline at::Tensor dense(at::Tensor tensor) {
  tensor = tensor.detach();
#if LOADER_API > 101
  if (quantized(tensor)) tensor = tensor.dequantize();
#endif
  if (tensor.layout() != at::kStrided) {
    check_made(tensor);
    tensor = tensor.to_dense();
  }
#if LOADER_API >= 111
  tensor = tensor.resolve_conj().resolve_neg();
#endif
  return tensor;
}

inline at::Tensor strided(const at::Tensor& tensor) {
  return tensor.layout() == at::kStrided ? tensor.detach() : dense(tensor);
}

// A strided tensor without its repetitions: one slice of every dimension that `expand` has made.
inline at::Tensor unexpanded(at::Tensor tensor) {
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    if (tensor.size(i) > 1 && tensor.stride(i) == 0) tensor = tensor.narrow(i, 0, 1);
  }
  return tensor;
}

// The first elements of a strided tensor in row-major order, on the CPU; nothing else of it is read.
inline at::Tensor first_elements(at::Tensor tensor, int64_t number) {
  for (int64_t i = 0; i < tensor.dim() && tensor.numel() > 0; ++i) {
    int64_t inner = 1;
    for (int64_t j = i + 1; j < tensor.dim() && inner < number; ++j) inner *= tensor.size(j);
    const int64_t slices = inner < number ? (number + inner - 1) / inner : 1;
    if (slices < tensor.size(i)) tensor = tensor.narrow(i, 0, slices);
    if (slices > 1) break; // all that is within them is wanted
  }
  tensor = dense(tensor).to(at::Device(at::kCPU)).contiguous().view({-1});
  return tensor.narrow(0, 0, tensor.numel() < number ? tensor.numel() : number);
}

inline JsonObject about(const at::Tensor& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.sizes()) sizes.push_back(json_number(static_cast<long long>(size)));
  return JsonObject().add("dtype", json_string(dtype_name(tensor.scalar_type()))).add("shape", json_array(sizes));
}

// The first values, and smallest, largest, mean over the finite ones; complex numbers are [re, im] and have
// no order.
struct Summary {
  std::vector<std::string> values;
  std::string min = "null", max = "null", mean = "null";
  int64_t non_finite = 0;
};

inline Summary summary(const at::Tensor& given) {
  const int64_t shown = 8;
  const at::Tensor held = strided(given), first = first_elements(held, shown);
  at::Tensor tensor = unexpanded(held);
  const int64_t repeated = tensor.numel() > 0 ? held.numel() / tensor.numel() : 1; // each of its elements
  check_made(tensor);
  tensor = dense(tensor);
  const c10::ScalarType type = tensor.scalar_type();
  Summary out;
  if (is_integral(type)) {
    const bool boolean = type == c10::ScalarType::Bool;
    const bool no_sign = dtype_name(type) == "uint64"; // as int64_t its upper half would be negative
    const auto written = [&](int64_t value) -> std::string {
      if (boolean) return value != 0 ? "true" : "false";
      if (no_sign) return std::to_string(static_cast<uint64_t>(value));
      return json_number(static_cast<long long>(value));
    };
    const auto less = [&](int64_t a, int64_t b) {
      return no_sign ? static_cast<uint64_t>(a) < static_cast<uint64_t>(b) : a < b;
    };
    for_elements<int64_t>(first, c10::ScalarType::Long, 1, [&](int64_t, const int64_t* element) { out.values.push_back(written(*element)); });
    int64_t low = 0, high = 0;
    double sum = 0;
    for_elements<int64_t>(tensor, c10::ScalarType::Long, 1, [&](int64_t i, const int64_t* element) {
      const int64_t value = *element;
      if (i == 0 || less(value, low)) low = value;
      if (i == 0 || less(high, value)) high = value;
      sum += no_sign ? static_cast<double>(static_cast<uint64_t>(value)) : static_cast<double>(value);
    });
    if (tensor.numel() > 0) {
      out.min = written(low);
      out.max = written(high);
      out.mean = json_number(sum / static_cast<double>(tensor.numel()));
    }
    return out;
  }
  if (c10::isComplexType(type)) {
    const bool single = type != c10::ScalarType::ComplexDouble;
    for_elements<double>(first, c10::ScalarType::ComplexDouble, 2, [&](int64_t, const double* element) {
      out.values.push_back("[" + json_number(element[0], single) + "," + json_number(element[1], single) + "]");
    });
    for_elements<double>(tensor, c10::ScalarType::ComplexDouble, 2, [&](int64_t, const double* element) {
      out.non_finite += std::isfinite(element[0]) && std::isfinite(element[1]) ? 0 : repeated;
    });
    return out;
  }
  const bool single = type != c10::ScalarType::Double;
  for_elements<double>(first, c10::ScalarType::Double, 1, [&](int64_t, const double* element) { out.values.push_back(json_number(*element, single)); });
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0;
  int64_t finite = 0;
  for_elements<double>(tensor, c10::ScalarType::Double, 1, [&](int64_t, const double* element) {
    const double value = *element;
    if (!std::isfinite(value)) return;
    ++finite;
    low = value < low ? value : low;
    high = value > high ? value : high;
    sum += value;
  });
  out.non_finite = (tensor.numel() - finite) * repeated;
  if (finite > 0) {
    out.min = json_number(low, single);
    out.max = json_number(high, single);
    out.mean = json_number(sum / static_cast<double>(finite));
  }
  return out;
}
