#include "wire.h"

#include "values.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <multipy/runtime/errors.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <stdexcept>

namespace torch::deploy::detail {

namespace {

constexpr std::size_t kInline = 8192;        // bytes of a tensor that travels in the message itself
constexpr std::size_t kSmallest = 1 << 16;   // bytes of a segment
constexpr int kMostDescriptors = 250;        // of a message; Linux takes 253

void* map(int descriptor, std::size_t size) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) throw InterpreterError(std::string("cannot map shared memory: ") + std::strerror(errno));
  return data;
}

}  // namespace

Segment::Segment(std::uint64_t id, std::size_t bytes) : number(id), size(bytes) {
  descriptor = memfd_create("embedded-python", MFD_CLOEXEC);
  if (descriptor < 0 || ftruncate(descriptor, static_cast<off_t>(bytes)) != 0)
    throw InterpreterError(std::string("cannot make shared memory: ") + std::strerror(errno));
  data = map(descriptor, bytes);
}

Segment::Segment(std::uint64_t id, std::size_t bytes, int file) : number(id), size(bytes), data(map(file, bytes)) {
  close(file);
}

Segment::~Segment() {
  if (data) munmap(data, size);
  if (descriptor >= 0) close(descriptor);
}

// ---- writing

Message& Message::file(int descriptor) {
  files_.push_back(descriptor);
  return tagged('f').raw(static_cast<std::uint32_t>(files_.size() - 1));
}

Message& Message::tensor(const at::Tensor& given) {
  if (!given.defined()) return none();
  check_dense(given);
  const at::Tensor tensor = given.detach().resolve_conj().resolve_neg().contiguous();
  const auto size = static_cast<std::size_t>(tensor.nbytes());
  tagged('t').sized(dtype_name(tensor.scalar_type()));
  raw(static_cast<std::uint32_t>(tensor.dim()));
  for (const std::int64_t each : tensor.sizes()) raw(each);
  raw(static_cast<std::uint64_t>(size));
  if (size <= kInline) {
    raw(std::uint64_t{0});
    body_.append(static_cast<const char*>(tensor.data_ptr()), size);
    return *this;
  }
  const std::shared_ptr<Segment> segment = connection_.lend(size);
  segments_.push_back(segment);
  std::memcpy(segment->data, tensor.data_ptr(), size);
  return raw(segment->number);
}

Message& Message::value(const at::IValue& value) {
  if (value.isNone()) return none();
  if (value.isTensor()) return tensor(value.toTensor());
  if (value.isBool()) return boolean(value.toBool());
  if (value.isInt()) return integer(value.toInt());
  if (value.isDouble()) return tagged('d').raw(value.toDouble());
  if (value.isComplexDouble()) {
    const auto complex = value.toComplexDouble();
    return tagged('c').raw(complex.real()).raw(complex.imag());
  }
  if (value.isString()) return text(value.toStringRef());
  if (value.isDevice()) return tagged('v').sized(value.toDevice().str());
  if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    tuple(elements.size());
    for (const at::IValue& element : elements) this->value(element);
    return *this;
  }
  if (value.isList()) {
    const c10::List<at::IValue> elements = value.toList();
    list(elements.size());
    for (std::size_t i = 0; i < elements.size(); ++i) this->value(elements.get(i));
    return *this;
  }
  if (value.isGenericDict()) {
    const auto entries = value.toGenericDict();
    dict(entries.size());
    for (const auto& entry : entries) this->value(entry.key()).value(entry.value());
    return *this;
  }
  throw std::invalid_argument("a value of type " + value.tagKind() + " cannot be handed to Python");
}

// ---- the connection

Connection::Connection(int descriptor) : descriptor_(descriptor) {}

Connection::~Connection() { close(descriptor_); }

std::shared_ptr<Segment> Connection::lend(std::size_t size) {
  std::size_t wanted = kSmallest;
  while (wanted < size) wanted *= 2;
  const auto fitting = std::find_if(
      spare_.begin(), spare_.end(), [&](const std::shared_ptr<Segment>& each) { return each->size == wanted; });
  std::shared_ptr<Segment> segment;
  if (fitting != spare_.end()) {
    segment = *fitting;
    spare_.erase(fitting);
  } else {
    segment = std::make_shared<Segment>(++last_, wanted);
  }
  own_[segment->number] = segment;
  return segment;
}

void Connection::send(const Message& message) {
  std::string head;
  const auto put = [&](std::uint64_t number) { head.append(reinterpret_cast<const char*>(&number), sizeof number); };
  std::vector<std::shared_ptr<Segment>> fresh;
  std::copy_if(message.segments_.begin(), message.segments_.end(), std::back_inserter(fresh),
               [](const std::shared_ptr<Segment>& each) { return each->descriptor >= 0; });
  put(fresh.size());
  std::vector<int> descriptors;
  for (const auto& segment : fresh) {
    put(segment->number);
    put(segment->size);
    descriptors.push_back(segment->descriptor);
  }
  {
    const std::lock_guard<std::mutex> guard(freed_->mutex);
    put(freed_->numbers.size());
    for (const std::uint64_t number : freed_->numbers) put(number);
    freed_->numbers.clear();
  }
  descriptors.insert(descriptors.end(), message.files_.begin(), message.files_.end());
  if (head.size() + message.body_.size() > UINT32_MAX)
    throw std::invalid_argument("more than 4 GB of values in one call");

  // Descriptors beyond what one message carries go ahead, with an empty body each.
  std::size_t sent = 0;
  do {
    const std::size_t count = std::min<std::size_t>(descriptors.size() - sent, kMostDescriptors);
    const bool last = sent + count == descriptors.size();
    std::uint32_t lengths[2] = {last ? static_cast<std::uint32_t>(head.size() + message.body_.size()) : 0,
                                static_cast<std::uint32_t>(count)};
    iovec vector{lengths, sizeof lengths};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    if (count) {
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
      cmsghdr* item = CMSG_FIRSTHDR(&header);
      item->cmsg_level = SOL_SOCKET;
      item->cmsg_type = SCM_RIGHTS;
      item->cmsg_len = CMSG_LEN(sizeof(int) * count);
      std::memcpy(CMSG_DATA(item), descriptors.data() + sent, sizeof(int) * count);
    }
    if (sendmsg(descriptor_, &header, MSG_NOSIGNAL) != sizeof lengths) throw ConnectionLost();
    sent += count;
  } while (sent < descriptors.size());
  for (const std::string* part : {static_cast<const std::string*>(&head), &message.body_}) {
    for (std::size_t done = 0; done < part->size();) {
      const ssize_t size = ::send(descriptor_, part->data() + done, part->size() - done, MSG_NOSIGNAL);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) throw ConnectionLost();
      done += static_cast<std::size_t>(size);
    }
  }
  for (const auto& segment : fresh) {
    close(segment->descriptor);
    segment->descriptor = -1;
  }
}

void Connection::cancel(const Message& message) {
  for (const auto& segment : message.segments_) {
    own_.erase(segment->number);
    if (segment->descriptor < 0) spare_.push_back(segment);  // the worker knows it
  }
}

void Connection::receive() {
  std::vector<int> descriptors;
  std::uint32_t lengths[2];
  do {
    iovec vector{lengths, sizeof lengths};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ssize_t size;
    do size = recvmsg(descriptor_, &header, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    while (size < 0 && errno == EINTR);
    if (size != sizeof lengths) throw ConnectionLost();
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item)) {
      const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      const std::size_t before = descriptors.size();
      descriptors.resize(before + count);
      std::memcpy(descriptors.data() + before, CMSG_DATA(item), count * sizeof(int));
    }
  } while (lengths[0] == 0);
  body_.resize(lengths[0]);
  position_ = 0;
  for (std::size_t done = 0; done < body_.size();) {
    const ssize_t size = recv(descriptor_, body_.data() + done, body_.size() - done, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) throw ConnectionLost();
    done += static_cast<std::size_t>(size);
  }
  const auto fresh = raw<std::uint64_t>();
  if (fresh != descriptors.size()) throw ConnectionLost();
  for (std::size_t i = 0; i < fresh; ++i) {
    const auto number = raw<std::uint64_t>();
    const auto size = raw<std::uint64_t>();
    theirs_[number] = std::make_shared<Segment>(number, size, descriptors[i]);
  }
  for (auto count = raw<std::uint64_t>(); count > 0; --count) {
    const auto known = own_.find(raw<std::uint64_t>());
    if (known == own_.end()) continue;
    spare_.push_back(known->second);
    own_.erase(known);
  }
}

// ---- reading

const char* Connection::take(std::size_t size) {
  if (size > body_.size() - position_) throw ConnectionLost();
  const char* data = body_.data() + position_;
  position_ += size;
  return data;
}

template <typename Number>
Number Connection::raw() {
  Number number;
  std::memcpy(&number, take(sizeof number), sizeof number);
  return number;
}

char Connection::tag() { return *take(1); }

std::int64_t Connection::integer() { return raw<std::int64_t>(); }

std::string Connection::text() {
  const auto size = raw<std::uint64_t>();
  return {take(size), size};
}

at::Tensor Connection::tensor() {
  const at::ScalarType type = dtype_of(text());
  std::vector<std::int64_t> sizes(raw<std::uint32_t>());
  for (std::int64_t& each : sizes) each = raw<std::int64_t>();
  const auto size = raw<std::uint64_t>();
  const auto number = raw<std::uint64_t>();
  if (number == 0) {
    at::Tensor result = at::empty(sizes, type);
    if (static_cast<std::uint64_t>(result.nbytes()) != size) throw ConnectionLost();
    std::memcpy(result.data_ptr(), take(size), size);
    return result;
  }
  const auto known = theirs_.find(number);
  if (known == theirs_.end()) throw ConnectionLost();
  // The memory stays mapped as long as the tensor lives, even if the worker does not.
  return at::from_blob(
      known->second->data, sizes,
      [segment = known->second, freed = freed_](void*) {
        const std::lock_guard<std::mutex> guard(freed->mutex);
        freed->numbers.push_back(segment->number);
      },
      at::TensorOptions(type));
}

at::IValue Connection::value_with(char tag, int depth) {
  if (depth > 100) throw std::invalid_argument("a value is nested more than 100 levels deep");
  switch (tag) {
    case 'N': return {};
    case 'T': return true;
    case 'F': return false;
    case 'i': return integer();
    case 'd': return raw<double>();
    case 'c': {
      const auto real = raw<double>();
      return c10::complex<double>(real, raw<double>());
    }
    case 's': case 'b': return text();
    case 'v': return c10::Device(text());
    case 't': return tensor();
    case 'u': case 'l': {
      std::vector<at::IValue> elements;
      for (auto count = raw<std::uint32_t>(); count > 0; --count) elements.push_back(value_with(this->tag(), depth + 1));
      if (tag == 'l') return list_of(elements);
      return c10::ivalue::Tuple::create(std::move(elements));
    }
    case 'm': {
      std::vector<std::pair<at::IValue, at::IValue>> entries;
      for (auto count = raw<std::uint32_t>(); count > 0; --count) {
        at::IValue key = value_with(this->tag(), depth + 1);
        entries.emplace_back(std::move(key), value_with(this->tag(), depth + 1));
      }
      return dict_of(entries);
    }
    default: throw ConnectionLost();
  }
}

}  // namespace torch::deploy::detail
