// What a handler library and the server that loads it agree on. The server has the same file.
//
// A handler is a class that derives from BaseHandler (or TorchScriptHandler, AOTInductorHandler) and overrides the steps that
// it wants to do differently; HANDLER(Class), once in a source file, exports it. The names are those of TorchServe's C++
// handlers. The server calls Initialize and LoadModel once, then Handle for each request, one at a time.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "handler_note.h"

namespace handlers {

// What the manifest of the model's archive says (MAR-INF/MANIFEST.json).
struct Manifest {
  std::string model_name;
  std::string model_version;
  std::string serialized_file;  // the model, relative to the model's directory
  std::string handler;          // "libmine_handler:MineHandler"
};

// A request that the handler cannot answer because of what is in it: the client gets status 400 with this text. Any other
// exception is answered with status 500.
class BadRequest : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Request {
  std::string id;
  std::string content_type;
  std::string body;  // as it was sent; empty where the request came as tensors (the Open Inference Protocol)

  // The body as the arguments of forward: a JSON array of values such as
  // {"type":"tensor","data_type":"float32","shape":[1,3],"value":[1,2,3]}. Throws where it is something else.
  std::function<std::vector<c10::IValue>()> arguments;
};

// What is answered: `value`, as JSON, or if `content_type` is set, the bytes of `body`.
struct Response {
  int status = 200;
  c10::IValue value;
  std::string content_type;
  std::string body;
};

// A model that is loaded.
class Model {
 public:
  virtual ~Model() = default;
  virtual c10::IValue Forward(std::vector<c10::IValue> arguments) = 0;
  // Names and types of forward's arguments (the first is `self`); null where they are unknown.
  virtual const c10::FunctionSchema* Schema() const { return nullptr; }
};

std::unique_ptr<Model> LoadTorchScript(const std::string& file, const c10::Device& device);
std::unique_ptr<Model> LoadAOTInductor(const std::string& file, const c10::Device& device);

class BaseHandler {
 public:
  BaseHandler() = default;
  BaseHandler(const BaseHandler&) = delete;
  BaseHandler& operator=(const BaseHandler&) = delete;
  virtual ~BaseHandler() = default;

  // Once, first. `model_dir` holds the archive's files and must not be changed.
  virtual void Initialize(const std::string& model_dir, const Manifest& manifest);

  // Once, after Initialize: sets model_. By default TorchScript, or AOTInductor where the file is a .pt2.
  virtual void LoadModel(const c10::Device& device);

  // The three steps of a request. By default: the arguments in the body, forward, and its result as JSON.
  virtual std::vector<c10::IValue> Preprocess(const Request& request);
  virtual c10::IValue Inference(std::vector<c10::IValue> inputs);
  virtual void Postprocess(const c10::IValue& output, Response& response);

  // Does the three steps.
  virtual void Handle(const Request& request, Response& response);

  // The signature that the server shows and by which it reads JSON arguments: by default the model's. Null: any.
  virtual const c10::FunctionSchema* Schema() const;

 protected:
  std::string model_file() const { return model_dir_ + "/" + manifest_.serialized_file; }

  std::string model_dir_;
  Manifest manifest_;
  c10::Device device_ = c10::kCPU;
  std::unique_ptr<Model> model_;
};

// The same for one kind of model, whatever its file is called.
class TorchScriptHandler : public BaseHandler {
 public:
  void LoadModel(const c10::Device& device) override;
};

class AOTInductorHandler : public BaseHandler {
 public:
  void LoadModel(const c10::Device& device) override;
};

}  // namespace handlers

// Exports a class of handlers: the functions that make and end one, under TorchServe's names for them, and the note. Once for
// each class, in a source file.
#define HANDLER(Class)                                                                                          \
  extern "C" {                                                                                                  \
  __attribute__((visibility("default"))) handlers::BaseHandler* allocator##Class() { return new Class; }         \
  __attribute__((visibility("default"))) void deleter##Class(handlers::BaseHandler* handler) { delete handler; } \
  }                                                                                                             \
  HANDLER_NOTE(Class)
