// What the server and a handler's process send each other over a socket: frames of a size and so many bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

using Deadline = std::chrono::steady_clock::time_point;

// The other side is gone, or sends what it should not.
class WireError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The other side has gone before it had read the whole frame that it was sent.
class NotRead : public WireError {
 public:
  using WireError::WireError;
};

class TooLate : public std::runtime_error {
 public:
  TooLate() : std::runtime_error("no answer in time") {}
};

// Throw WireError, NotRead or TooLate; receive_frame throws NotRead of what was sent before. A deadline of Deadline::max() never passes.
void send_frame(int socket, std::string_view bytes, Deadline deadline);
std::string receive_frame(int socket, Deadline deadline);

// The first letter of a frame.
namespace frame {
constexpr char load = 'L';    // to the process: what to load
constexpr char body = 'B';    // a request's Content-Type and body; the answer's
constexpr char values = 'V';  // arguments, or a result, as libtorch writes them
constexpr char ready = 'R';   // from the process: it has loaded; its signature
constexpr char failed = 'F';  // from the process: an HTTP status and an error
}  // namespace frame

class Writer {
 public:
  explicit Writer(char kind) : bytes_(1, kind) {}
  Writer& number(std::uint64_t value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& text(std::string_view value) {
    number(value.size());
    bytes_.append(value);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {
    kind = take(1).front();
  }
  char kind;
  std::uint64_t number() {
    std::uint64_t value = 0;
    take(sizeof value).copy(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }
  std::string text() { return std::string(take(number())); }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size()) throw WireError("a frame is too short");
    const std::string_view taken = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view bytes_;
};
