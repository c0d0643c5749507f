// Two tensors in files compared, a piece at a time: whatever their size, little memory is needed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "inputs.h"
#include "json.h"
#include "tensors.h"

// The elements of a tensor in a file, in row-major order.
class StoredElements {
 public:
  static const int64_t most = 1 << 18; // read at once

  // `DTYPE DIMS OFFSET STRIDES PATH`
  explicit StoredElements(Words& words) : dtype(dtype_named(words.next())), sizes(sizes_from(words.next())) {
    const int64_t offset = whole(words.next());
    const Sizes strides = sizes_from(words.next());
    path_ = string_from(words.next());
    count = element_count(sizes);
    if (!contiguous(strides)) { // read as a whole
      whole_ = from_file(dtype, sizes, offset, strides, path_).contiguous().view({-1});
      return;
    }
    file_.reset(std::fopen(path_.c_str(), "rb"));
    if (!file_) throw std::runtime_error("cannot open " + path_);
    if (offset < 0 || !seek(file_.get(), offset)) throw std::runtime_error("cannot read " + path_);
  }

  // The next `number` elements, at most `most`.
  at::Tensor next(int64_t number) {
    if (!file_) {
      at_ += number;
      return whole_.narrow(0, at_ - number, number);
    }
    bytes_.resize(static_cast<size_t>(number) * c10::elementSize(dtype) + 1); // one more: data() of none would be null
    if (std::fread(bytes_.data(), 1, bytes_.size() - 1, file_.get()) != bytes_.size() - 1) throw std::runtime_error(path_ + " is shorter than its tensor");
    return api::from_blob(bytes_.data(), {number}, at::TensorOptions(dtype));
  }

  c10::ScalarType dtype;
  Sizes sizes;
  int64_t count = 0;

 private:
  bool contiguous(const Sizes& strides) const {
    if (strides.size() != sizes.size()) throw std::runtime_error("shape and strides do not fit together");
    int64_t step = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      if (sizes[i] != 1 && strides[i] != step) return count == 0;
      step *= sizes[i];
    }
    return true;
  }

  struct Close {
    void operator()(FILE* file) const {
      std::fclose(file);
    }
  };
  std::string path_;
  std::unique_ptr<FILE, Close> file_;
  std::vector<char> bytes_;
  at::Tensor whole_;
  int64_t at_ = 0;
};

// The greatest of some differences, and where it is.
struct Greatest {
  void take(double difference, int64_t index) {
    if (difference > value) {
      value = difference;
      at = index;
    }
  }
  std::string place(const Sizes& sizes) const { // `[0,3]`; null where there is no difference
    if (at < 0) return "null";
    std::vector<std::string> indices(sizes.size());
    int64_t left = at;
    for (size_t i = sizes.size(); i-- > 0;) {
      indices[i] = json_number(static_cast<long long>(left % sizes[i]));
      left /= sizes[i];
    }
    return json_array(indices);
  }

  double value = 0;
  int64_t at = -1;
};

// Whether |actual - expected| <= atol + rtol * |expected| everywhere. NaN is equal to NaN, an infinity to that of its
// sign; any other pair with one of them differs by infinity. dtypes may differ, shapes may not.
struct Comparison {
  void take(double error, double size, int64_t index, double atol, double rtol) {
    if (!(error <= atol + rtol * size) || std::isinf(error)) ++mismatched;
    if (error == 0) return;
    absolute.take(error, index);
    relative.take(std::isinf(error) || size == 0 ? std::numeric_limits<double>::infinity() : error / size, index);
  }

  int64_t mismatched = 0;
  Greatest absolute, relative;
};

// Whole numbers are compared as such: a double does not hold all of 64 bits.
inline void compare_whole(const at::Tensor& actual, const at::Tensor& expected, bool no_sign, int64_t first, double atol, double rtol, Comparison& out) {
  const Elements<int64_t> got(actual, c10::ScalarType::Long), wanted(expected, c10::ScalarType::Long);
  for (int64_t i = 0; i < got.count; ++i) {
    const int64_t a = got.begin[i], b = wanted.begin[i];
    const uint64_t x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
    const bool less = no_sign ? x < y : a < b;
    const double size = no_sign ? static_cast<double>(y) : std::fabs(static_cast<double>(b));
    out.take(static_cast<double>(less ? y - x : x - y), size, first + i, atol, rtol);
  }
}

inline void compare_real(const at::Tensor& actual, const at::Tensor& expected, bool complex, int64_t first, double atol, double rtol, Comparison& out) {
  const c10::ScalarType as = complex ? c10::ScalarType::ComplexDouble : c10::ScalarType::Double;
  const Elements<double> got(actual, as), wanted(expected, as);
  const int parts = complex ? 2 : 1;
  for (int64_t i = 0; i < got.count; ++i) {
    double error = 0, size = 0;
    bool same = true;
    for (int64_t j = i * parts; j < (i + 1) * parts; ++j) {
      const double a = got.begin[j], b = wanted.begin[j];
      if (std::isfinite(a) && std::isfinite(b)) {
        error = parts == 1 ? std::fabs(a - b) : std::hypot(error, a - b);
        size = parts == 1 ? std::fabs(b) : std::hypot(size, b);
      } else {
        same = same && (a == b || (std::isnan(a) && std::isnan(b)));
      }
    }
    out.take(same ? error : std::numeric_limits<double>::infinity(), size, first + i, atol, rtol);
  }
}

// `ACTUAL EXPECTED ATOL RTOL`, each tensor as `DTYPE DIMS OFFSET STRIDES PATH`.
inline std::string compared(Words& words) {
  StoredElements actual(words), expected(words);
  const double atol = real(words.next()), rtol = real(words.next());
  if (actual.sizes != expected.sizes) throw std::runtime_error("the shapes differ");
  const bool whole = is_integral(actual.dtype) && is_integral(expected.dtype);
  const bool actual_no_sign = dtype_name(actual.dtype) == "uint64", expected_no_sign = dtype_name(expected.dtype) == "uint64";
  const bool complex = c10::isComplexType(actual.dtype) || c10::isComplexType(expected.dtype);
  Comparison out;
  for (int64_t first = 0; first < actual.count; first += StoredElements::most) {
    const int64_t number = actual.count - first < StoredElements::most ? actual.count - first : StoredElements::most;
    const at::Tensor got = actual.next(number), wanted = expected.next(number);
    if (whole && actual_no_sign == expected_no_sign) {
      compare_whole(got, wanted, actual_no_sign, first, atol, rtol, out);
    } else {
      compare_real(got, wanted, complex, first, atol, rtol, out);
    }
  }
  JsonObject result;
  result.add("event", "\"compared\"").add("ok", out.mismatched == 0 ? "true" : "false");
  result.add("elements", json_number(static_cast<long long>(actual.count))).add("mismatched", json_number(static_cast<long long>(out.mismatched)));
  result.add("max_abs_error", json_number(out.absolute.value)).add("worst_at", out.absolute.place(actual.sizes));
  return result.add("max_rel_error", json_number(out.relative.value)).add("worst_rel_at", out.relative.place(actual.sizes)).text();
}
