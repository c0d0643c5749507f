// A model that is loaded and can be called: TorchScript, AOTInductor, and handlers in their worker processes.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// A request that cannot be answered: `status` is the HTTP status, what() the text of its JSON error.
class RequestError : public std::runtime_error {
 public:
  RequestError(int status, const std::string& fact) : std::runtime_error(fact), status(status) {}
  const int status;
};

// One argument or result of a model, as far as the model says.
struct Port {
  std::string name;
  c10::TypePtr type;           // null: anything
  bool required = true;        // without a default
  std::string data_type;       // torch's name of the dtype ("float32"); empty: unknown
  std::vector<int64_t> shape;  // -1: a size that is unknown or free
  bool ranked = false;         // whether `shape` is known at all
};

struct Signature {
  std::vector<Port> inputs;
  std::vector<Port> outputs;
};

// Bytes with their Content-Type: a request's body and the answer to it.
struct Message {
  std::string content_type;
  std::string body;
};

class Servable {
 public:
  virtual ~Servable() = default;

  // "pytorch_torchscript", "pytorch_aotinductor", "pytorch_handler"
  virtual const char* platform() const = 0;
  virtual const Signature& signature() const = 0;

  // How much memory the model takes, for the cache's budget.
  virtual std::size_t bytes() const = 0;

  // The model's answer. Arguments that have a default may be missing at the end. Any number of threads call it at once.
  // Throws RequestError where the arguments do not fit (4xx) or a worker died (500); any other exception is the model's own.
  virtual c10::IValue call(std::vector<c10::IValue> arguments) = 0;

  // Whether requests may be joined along their first dimension where a trial shows that this changes no result.
  virtual bool may_batch() const { return true; }

  // A handler that reads request bodies itself: then /serve and /predictions pass the body on as it is, and
  // the answer is sent as it is.
  virtual bool takes_bodies() const { return false; }
  virtual Message call(const Message&) { throw RequestError(500, "this model takes no raw bodies"); }

  // The same without waiting: `answered` is called once, mostly from another thread.
  using Answered = std::function<void(Message, std::exception_ptr)>;
  virtual void call_later(const Message&, Answered) { throw RequestError(500, "this model takes no raw bodies"); }
};

struct OpenOptions {
  std::string handlers;  // --handlers DIR; empty: none
  int workers = 1;       // --workers: processes for each handler
  int timeout_seconds = 30;  // --timeout: after which a handler that does not answer is ended
};

// Loads the model in a file: by its suffix one of the functions below. Throws RequestError(422, …) where that fails.
std::unique_ptr<Servable> open_model(const std::string& path, const OpenOptions& options);

std::unique_ptr<Servable> open_torchscript(const std::string& path);   // models/torchscript.cpp: .pt, .ts, .pth
std::unique_ptr<Servable> open_aotinductor(const std::string& path);   // models/aotinductor.cpp: .pt2
std::unique_ptr<Servable> open_archive(const std::string& path, const OpenOptions& options);  // handlers/: .mar

// The name under which /predictions and /v2 offer a file: its stem, of an archive what its manifest says.
// Reads no more than the manifest; an archive that cannot be read has its stem, too.
std::string name_of_archive(const std::string& path);  // handlers/
