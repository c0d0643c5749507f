// Messages between the program and a worker process, and the shared memory that large tensors travel in.
//
// A message is 8 bytes (length of the body, number of descriptors; the descriptors come with them), then the body:
// segments that are new, segments that the sender no longer uses, and values, each with a tag. See also worker.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace torch::deploy::detail {

/// The other side is gone.
class ConnectionLost : public std::exception {};

/// A mapped memfd: without a name in any file system, gone with its last user.
class Segment {
 public:
  Segment(std::uint64_t number, std::size_t size);                  // a new one
  Segment(std::uint64_t number, std::size_t size, int descriptor);  // the other side's
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const std::uint64_t number;
  const std::size_t size;
  void* data = nullptr;
  int descriptor = -1;  // until the other side has it
};

class Message;

/// A connection to one worker. Not for concurrent use, except that tensors it made may be freed in any thread.
class Connection {
 public:
  explicit Connection(int descriptor);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Throws ConnectionLost.
  void send(const Message& message);
  /// Takes back the segments of a message that is not sent.
  void cancel(const Message& message);
  void receive();  // the answer, which the functions below then read in order

  char tag();
  std::int64_t integer();
  std::string text();
  at::IValue value() { return value_with(tag(), 0); }
  at::Tensor tensor();  // after its tag

 private:
  friend class Message;
  std::shared_ptr<Segment> lend(std::size_t size);
  at::IValue value_with(char tag, int depth);
  template <typename Number>
  Number raw();
  const char* take(std::size_t size);

  // Segments that tensors of this program were made from, to be reported as free; shared with those tensors.
  struct Freed {
    std::mutex mutex;
    std::vector<std::uint64_t> numbers;
  };

  int descriptor_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, std::shared_ptr<Segment>> own_;     // in use by the worker
  std::vector<std::shared_ptr<Segment>> spare_;                         // known to the worker, not in use
  std::unordered_map<std::uint64_t, std::shared_ptr<Segment>> theirs_;
  std::shared_ptr<Freed> freed_ = std::make_shared<Freed>();
  std::string body_;
  std::size_t position_ = 0;
};

/// A request.
class Message {
 public:
  explicit Message(Connection& connection) : connection_(connection) {}
  Message& none() { return tagged('N'); }
  Message& boolean(bool value) { return tagged(value ? 'T' : 'F'); }
  Message& integer(std::int64_t value) { return tagged('i').raw(value); }
  Message& text(const std::string& value) { return tagged('s').sized(value); }
  Message& bytes(const std::string& value) { return tagged('b').sized(value); }
  Message& list(std::size_t size) { return tagged('l').raw(static_cast<std::uint32_t>(size)); }
  Message& tuple(std::size_t size) { return tagged('u').raw(static_cast<std::uint32_t>(size)); }
  Message& dict(std::size_t size) { return tagged('m').raw(static_cast<std::uint32_t>(size)); }
  Message& object(std::int64_t handle) { return tagged('o').raw(handle); }
  Message& file(int descriptor);  // a descriptor that the worker gets a copy of
  Message& tensor(const at::Tensor& tensor);
  Message& value(const at::IValue& value);

 private:
  friend class Connection;
  Message& tagged(char tag) {
    body_.push_back(tag);
    return *this;
  }
  template <typename Number>
  Message& raw(Number number) {
    body_.append(reinterpret_cast<const char*>(&number), sizeof number);
    return *this;
  }
  Message& sized(const std::string& text) {
    raw(static_cast<std::uint64_t>(text.size()));
    body_ += text;
    return *this;
  }

  Connection& connection_;
  std::string body_;
  std::vector<std::shared_ptr<Segment>> segments_;  // lent for this message
  std::vector<int> files_;
};

}  // namespace torch::deploy::detail
