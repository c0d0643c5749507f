#include "server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_set>

#include "../json.h"
#include "inflate.h"

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t max_header = 16 << 10;
constexpr std::size_t padding = 64;  // bytes behind a body that simdjson may read
constexpr std::size_t spare_descriptors = 128;  // beside those of connections
constexpr auto tick = std::chrono::milliseconds(200);
constexpr auto linger = std::chrono::microseconds(50);

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

class Connection;

// Runs a loop until it is stopped. Before it sleeps it looks for a moment whether the next request comes: a processor of a
// virtual machine that was halted takes twice as long for a small model. Who else wants the processor has it meanwhile.
void turn(asio::io_context& context) {
  auto last = Clock::now();
  while (!context.stopped()) {
    if (context.poll() == 0) {
      if (Clock::now() - last < linger) {
        std::this_thread::yield();
        continue;
      }
      context.run_one();
    }
    last = Clock::now();
  }
}

// One thread with its connections: a connection never leaves its thread, so that it needs no lock.
struct Loop {
  asio::io_context context{1};
  asio::steady_timer timer{context};
  std::unordered_set<Connection*> connections;
};

struct Shared {
  HttpOptions options;
  Handler handler;
  std::atomic<bool> draining{false};
  std::atomic<std::size_t> open{0};
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Loop& loop, Shared& shared) : socket_(std::move(socket)), loop_(loop), shared_(shared) {
    loop_.connections.insert(this);
  }
  ~Connection() {
    loop_.connections.erase(this);
    --shared_.open;
  }

  void start() {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
    read();
  }

  // Called a few times a second: one timer for all connections costs less than one for each request.
  void check(Clock::time_point now) {
    if (phase_ == Phase::closed) return;
    if (shared_.draining && phase_ == Phase::idle && deadline_ > now + tick) deadline_ = now + tick;
    if (now < deadline_) return;
    if (phase_ == Phase::reading) {
      error_code ignored;
      socket_.cancel(ignored);  // what is still being read
      fail(408, "the request was not complete in time");
    } else if (phase_ == Phase::answering) {
      close_after_ = true;
      finish(turn_, error(408, "the answer was not ready in time"));
    } else {
      close();
    }
  }

 private:
  enum class Phase { idle, reading, answering, writing, closed };

  void enter(Phase phase, int seconds) {
    phase_ = phase;
    deadline_ = Clock::now() + std::chrono::seconds(seconds);
  }

  void read() {
    parser_.emplace();
    parser_->header_limit(max_header);
    parser_->body_limit(shared_.options.max_body);
    parser_->get().body().reserve(padding);
    const bool begun = buffer_.size() > 0;  // of a pipelined request
    enter(begun ? Phase::reading : Phase::idle, begun ? shared_.options.timeout_seconds : shared_.options.idle_seconds);
    if (begun) return read_header();
    socket_.async_read_some(buffer_.prepare(8192), [self = shared_from_this()](error_code failed, std::size_t count) {
      if (failed) return self->close();
      self->buffer_.commit(count);
      self->enter(Phase::reading, self->shared_.options.timeout_seconds);
      self->read_header();
    });
  }

  void read_header() {
    error_code failed;
    // Most requests have arrived whole: then nothing has to wait.
    parser_->eager(true);
    if (buffer_.size() > 0) {
      const std::size_t used = parser_->put(buffer_.data(), failed);
      buffer_.consume(used);
      if (failed == http::error::need_more) failed = {};
      if (failed) return refuse(failed);
    }
    if (parser_->is_done()) return answer();
    if (parser_->is_header_done() && !continued_) {
      continued_ = true;
      if (parser_->content_length()) parser_->get().body().reserve(static_cast<std::size_t>(*parser_->content_length()) + padding);
      const auto expect = parser_->get()[http::field::expect];
      if (boost::beast::iequals(expect, "100-continue")) {
        static const std::string line = "HTTP/1.1 100 Continue\r\n\r\n";
        asio::async_write(socket_, asio::buffer(line), [self = shared_from_this()](error_code broken, std::size_t) {
          if (broken) return self->close();
          self->read_more();
        });
        return;
      }
    }
    read_more();
  }

  void read_more() {
    socket_.async_read_some(buffer_.prepare(64 << 10), [self = shared_from_this()](error_code broken, std::size_t count) {
      if (self->phase_ != Phase::reading) return;
      if (broken) return self->close();
      self->buffer_.commit(count);
      self->read_header();
    });
  }

  void refuse(error_code failed) {
    if (failed == http::error::body_limit) return fail(413, "the body is too large");
    if (failed == http::error::header_limit) return fail(431, "the header is too large");
    fail(400, "not an HTTP request: " + failed.message());
  }

  void answer() {
    continued_ = false;
    auto& message = parser_->get();
    close_after_ = !message.keep_alive();
    old_ = message.version() < 11;
    std::string_view target = view(message.target());
    const std::size_t scheme = target.find("://");
    if (scheme < target.find('/')) {  // the absolute form, as it is sent to a proxy
      const std::size_t slash = target.find_first_of("/?", scheme + 3);
      target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
    const std::size_t question = target.find('?');
    Request request;
    request.method = view(message.method_string());
    head_ = message.method() == http::verb::head;
    if (head_) request.method = "GET";
    request.path = target.substr(0, question);
    request.query = question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
    request.content_type = view(message[http::field::content_type]);
    request.inference_header_length = view(message["Inference-Header-Content-Length"]);
    request.body = &message.body();
    const std::string_view coding = view(message[http::field::content_encoding]);
    enter(Phase::answering, shared_.options.timeout_seconds);
    const std::uint64_t turn = ++turn_;
    if (!coding.empty() && coding != "identity") {
      if (coding != "gzip" && coding != "deflate") return finish(turn, error(415, "Content-Encoding must be gzip, deflate or identity"));
      std::string inflated;
      const Inflated ended = inflate_body(message.body(), shared_.options.max_body, inflated);
      if (ended == Inflated::too_large) return finish(turn, error(413, "the body is too large"));
      if (ended == Inflated::damaged) return finish(turn, error(400, "the body is not compressed as Content-Encoding says"));
      message.body() = std::move(inflated);
    }
    if (request.body->capacity() < request.body->size() + padding) request.body->reserve(request.body->size() + padding);
    thread_ = std::this_thread::get_id();
    in_handler_ = true;
    shared_.handler(request, [self = shared_from_this(), turn](Response response) {
      if (std::this_thread::get_id() == self->thread_) return self->finish(turn, std::move(response));
      asio::post(self->loop_.context, [self, turn, response = std::move(response)]() mutable { self->finish(turn, std::move(response)); });
    });
    in_handler_ = false;
    if (written_) next();
  }

  static Response error(int status, const std::string& fact) {
    Response response;
    response.status = status;
    response.body = "{\"error\":" + json_string(fact) + "}";
    return response;
  }

  // An answer to what is no whole request: where the next one would begin is unknown, so that the connection ends.
  void fail(int status, const std::string& fact) {
    close_after_ = true;
    head_ = false;
    phase_ = Phase::answering;
    finish(++turn_, error(status, fact));
  }

  void finish(std::uint64_t turn, Response response) {
    if (turn != turn_ || phase_ != Phase::answering) return;  // it came too late
    enter(Phase::writing, shared_.options.timeout_seconds);
    if (shared_.draining) close_after_ = true;
    body_ = std::move(response.body);
    header_.clear();
    header_ += "HTTP/1.1 ";
    header_ += std::to_string(response.status);
    header_ += ' ';
    header_ += view(http::obsolete_reason(static_cast<http::status>(response.status)));
    header_ += "\r\nContent-Type: ";
    header_ += response.content_type;
    header_ += "\r\nContent-Length: ";
    header_ += std::to_string(body_.size());
    for (const auto& [name, value] : response.headers) {
      header_ += "\r\n";
      header_ += name;
      header_ += ": ";
      header_ += value;
    }
    if (close_after_) {
      header_ += "\r\nConnection: close";
    } else if (old_) {
      header_ += "\r\nConnection: keep-alive";
    }
    header_ += "\r\n\r\n";
    if (head_) body_.clear();
    const std::array<asio::const_buffer, 2> parts = {asio::buffer(header_), asio::buffer(body_)};
    // Mostly the kernel takes it all at once: then nothing has to wait.
    error_code failed;
    std::size_t sent = socket_.write_some(parts, failed);
    if (failed == asio::error::would_block || failed == asio::error::try_again || failed == asio::error::interrupted) sent = 0, failed = {};
    if (failed) return close();
    if (sent == header_.size() + body_.size()) {
      written_ = true;
      if (!in_handler_) next();  // it still looks at the request
      return;
    }
    const std::size_t of_header = std::min(sent, header_.size());
    const std::array<asio::const_buffer, 2> rest = {parts[0] + of_header, parts[1] + (sent - of_header)};
    asio::async_write(socket_, rest, [self = shared_from_this()](error_code broken, std::size_t) {
      if (broken || self->phase_ == Phase::closed) return self->close();
      self->next();
    });
  }

  // Behind an answer.
  void next() {
    written_ = false;
    if (close_after_) return hang_up();
    if (body_.capacity() > (1u << 20)) body_ = {};
    if (buffer_.size() == 0) return read();
    // Of pipelined requests, each has its own turn: one within the other would need a stack of any depth.
    asio::post(loop_.context, [self = shared_from_this()] {
      if (self->phase_ != Phase::closed) self->read();
    });
  }

  // Reads what the client still sends, for a while: closing at once would reset the connection, and the client might never
  // see the answer.
  void hang_up() {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    enter(Phase::idle, 2);
    drain();
  }

  void drain() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(64 << 10), [self = shared_from_this()](error_code ended, std::size_t) {
      if (ended || self->phase_ == Phase::closed) return self->close();
      self->drain();
    });
  }

  void close() {
    phase_ = Phase::closed;
    error_code ignored;
    socket_.close(ignored);
  }

  tcp::socket socket_;
  Loop& loop_;
  Shared& shared_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string header_, body_;
  Phase phase_ = Phase::idle;
  Clock::time_point deadline_;
  std::thread::id thread_;
  std::uint64_t turn_ = 0;  // which request is being answered
  bool close_after_ = false, continued_ = false, head_ = false, old_ = false;
  bool in_handler_ = false, written_ = false;
};

}  // namespace

struct HttpServer::State {
  Shared shared;
  std::vector<std::unique_ptr<Loop>> loops;
  std::optional<tcp::acceptor> acceptor;
  std::optional<asio::signal_set> signals;
  std::uint16_t port = 0;
  std::size_t next = 0;

  void accept() {
    Loop& loop = *loops[next++ % loops.size()];
    acceptor->async_accept(loop.context, [this, &loop](error_code failed, tcp::socket socket) {
      if (failed == asio::error::operation_aborted || !acceptor->is_open()) return;
      if (failed) {  // of descriptors, mostly: try again a little later
        loops[0]->timer.expires_after(tick);
        loops[0]->timer.async_wait([this](error_code) { accept(); });
        return;
      }
      take(loop, std::move(socket));
      accept();
    });
  }

  // As far as that goes without waiting; then it is closed.
  static void turn_away(tcp::socket& socket) {
    static const std::string answer =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 32\r\n\r\n"
        "{\"error\":\"too many connections\"}";
    error_code ignored;
    socket.non_blocking(true, ignored);
    char asked[4096];
    socket.read_some(asio::buffer(asked), ignored);  // closed with unread bytes, it would be reset
    socket.write_some(asio::buffer(answer), ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  void take(Loop& loop, tcp::socket socket) {
    if (shared.open >= shared.options.max_connections) return turn_away(socket);
    ++shared.open;  // before it is on its thread: until then, too, the end has to wait for it
    auto kept = std::make_shared<tcp::socket>(std::move(socket));
    asio::post(loop.context, [this, &loop, kept] { std::make_shared<Connection>(std::move(*kept), loop, shared)->start(); });
  }

  void watch(Loop& loop) {
    auto timer = std::make_shared<asio::steady_timer>(loop.context);
    watch(loop, timer);
  }

  void watch(Loop& loop, std::shared_ptr<asio::steady_timer> timer) {
    timer->expires_after(tick);
    timer->async_wait([this, &loop, timer](error_code) {
      const auto now = Clock::now();
      std::vector<std::shared_ptr<Connection>> all;  // closing one changes the set
      for (Connection* each : loop.connections) all.push_back(each->shared_from_this());
      for (const auto& each : all) each->check(now);
      all.clear();
      if (shared.draining && shared.open == 0) {
        loop.context.stop();
        return;
      }
      watch(loop, timer);
    });
  }

  void drain() {
    if (shared.draining.exchange(true)) std::_Exit(1);  // asked a second time
    // What the kernel has accepted for us is ours; then the door is closed.
    error_code failed;
    acceptor->non_blocking(true, failed);
    while (!failed) {
      Loop& loop = *loops[next++ % loops.size()];
      tcp::socket socket(loop.context);
      acceptor->accept(socket, failed);
      if (!failed) take(loop, std::move(socket));
    }
    acceptor->close(failed);
    signals->async_wait([this](error_code ended, int) {
      if (!ended) drain();
    });
  }
};

HttpServer::HttpServer(const HttpOptions& options, Handler handler) : state_(std::make_unique<State>()) {
  state_->shared.options = options;
  // Each connection is a descriptor, and models need some, too.
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    const rlim_t wanted = options.max_connections + spare_descriptors;
    if (descriptors.rlim_cur < wanted) {
      descriptors.rlim_cur = std::min(wanted, descriptors.rlim_max);
      setrlimit(RLIMIT_NOFILE, &descriptors);
      getrlimit(RLIMIT_NOFILE, &descriptors);
    }
    const rlim_t room = descriptors.rlim_cur > 2 * spare_descriptors ? descriptors.rlim_cur - spare_descriptors : descriptors.rlim_cur / 2;
    state_->shared.options.max_connections = static_cast<std::size_t>(std::min<rlim_t>(options.max_connections, room));
  }
  state_->shared.handler = std::move(handler);
  for (int i = 0; i < options.threads; ++i) state_->loops.push_back(std::make_unique<Loop>());
  asio::io_context& first = state_->loops[0]->context;
  error_code failed;
  const auto address = asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, failed);
  if (failed) throw std::runtime_error("--host " + options.host + ": not an IP address");
  const tcp::endpoint endpoint(address, options.port);
  state_->acceptor.emplace(first);
  state_->acceptor->open(endpoint.protocol(), failed);
  if (!failed) state_->acceptor->set_option(tcp::acceptor::reuse_address(true), failed);
  if (!failed) state_->acceptor->bind(endpoint, failed);
  if (!failed) state_->acceptor->listen(1024, failed);
  if (failed) throw std::runtime_error("cannot listen on " + options.host + ":" + std::to_string(options.port) + ": " + failed.message());
  state_->port = state_->acceptor->local_endpoint().port();
  state_->signals.emplace(first, SIGTERM, SIGINT);
  state_->signals->async_wait([state = state_.get()](error_code ended, int) {
    if (!ended) state->drain();
  });
}

HttpServer::~HttpServer() = default;

std::uint16_t HttpServer::port() const { return state_->port; }

void HttpServer::run() {
  state_->accept();
  std::vector<std::thread> threads;
  for (auto& loop : state_->loops) {
    state_->watch(*loop);
    threads.emplace_back([&loop] { turn(loop->context); });
  }
  for (std::thread& thread : threads) thread.join();
}
