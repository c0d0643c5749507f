// A request and its answer, as the rest of the program sees them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct Request {
  std::string_view method;
  std::string_view path;   // as sent, still percent-encoded
  std::string_view query;  // behind the question mark
  std::string_view content_type;
  std::string_view inference_header_length;  // of the binary tensor extension; empty: not sent
  std::string* body = nullptr;               // may be taken or changed; has room for the parser's padding behind its end
};

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// Sends the answer to one request; any thread may call it, once.
using Reply = std::function<void(Response)>;

using Handler = std::function<void(const Request&, Reply)>;
