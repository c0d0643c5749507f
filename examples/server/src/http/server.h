// The HTTP side: connections, limits and the orderly end. It knows nothing of models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "http.h"

struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;  // 0: any free one
  int threads = 2;
  std::size_t max_body = 64u << 20;
  std::size_t max_connections = 4096;
  int timeout_seconds = 30;  // for a request to be read, and again to be answered
  int idle_seconds = 75;     // for a connection between two requests
};

class HttpServer {
 public:
  // Binds the address; throws std::runtime_error where that fails.
  HttpServer(const HttpOptions& options, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;

  // Serves until SIGTERM or SIGINT: then takes no new connection, answers every request that has arrived, and returns.
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};
