#include "wire.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace {

constexpr std::uint64_t largest_frame = std::uint64_t{4} << 30;

void wait_for(int socket, short events, Deadline deadline) {
  for (;;) {
    int milliseconds = -1;
    if (deadline != Deadline::max()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count() + 1;
      if (left <= 0) throw TooLate();
      milliseconds = static_cast<int>(std::min<long long>(left, 60000));
    }
    pollfd descriptor{socket, events, 0};
    const int count = poll(&descriptor, 1, milliseconds);
    if (count > 0) return;
    if (count < 0 && errno != EINTR) throw WireError(std::strerror(errno));
  }
}

void send_all(int socket, const char* bytes, std::size_t size, Deadline deadline) {
  while (size > 0) {
    const ssize_t count = send(socket, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      bytes += count;
      size -= static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      wait_for(socket, POLLOUT, deadline);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      throw NotRead(std::strerror(errno));
    } else if (errno != EINTR) {
      throw WireError(std::strerror(errno));
    }
  }
}

void receive_all(int socket, char* bytes, std::size_t size, Deadline deadline) {
  while (size > 0) {
    wait_for(socket, POLLIN, deadline);
    const ssize_t count = recv(socket, bytes, size, MSG_DONTWAIT);
    if (count == 0) throw WireError("the connection ended");
    if (count > 0) {
      bytes += count;
      size -= static_cast<std::size_t>(count);
    } else if (errno == ECONNRESET) {  // Linux's answer where the other side's queue was not empty when it was closed
      throw NotRead(std::strerror(errno));
    } else if (errno != EINTR && errno != EAGAIN) {
      throw WireError(std::strerror(errno));
    }
  }
}

}  // namespace

void send_frame(int socket, std::string_view bytes, Deadline deadline) {
  const std::uint64_t size = bytes.size();
  send_all(socket, reinterpret_cast<const char*>(&size), sizeof size, deadline);
  send_all(socket, bytes.data(), bytes.size(), deadline);
}

std::string receive_frame(int socket, Deadline deadline) {
  std::uint64_t size = 0;
  receive_all(socket, reinterpret_cast<char*>(&size), sizeof size, deadline);
  if (size == 0 || size > largest_frame) throw WireError("a frame has an impossible size");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  receive_all(socket, bytes.data(), bytes.size(), deadline);
  return bytes;
}
