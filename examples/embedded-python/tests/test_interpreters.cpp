// The interface as a program uses it, in both kinds of isolation: test-interpreters PACKAGE.pt namespace|process

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <multipy/runtime/deploy.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

using namespace multipy::runtime;

#define EXPECT(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
      std::exit(1);                                                             \
    }                                                                           \
  } while (false)

static const char* const kHelpers = R"(
import torch

def identity(value): return value
def fail(): raise ValueError("no such luck")
def add_one(tensor): return tensor.add_(1)
def grows(tensor): return tensor.requires_grad_() * 2
def grad_is_enabled(): return torch.is_grad_enabled()
def crash(): import os, signal; os.kill(os.getpid(), signal.SIGKILL)
def nested(): return {"a": [1, 2], "b": (None, True, 1.5, "text")}
def big(): return torch.ones(1000, 1000)
class Kept:
    def __init__(self): self.weight = torch.ones(3)
)";

template <typename Error, typename Function>
static std::string message_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

static void values(InterpreterManager& manager) {
  auto session = manager.acquireOne();
  Obj identity = session.global("helpers", "identity");
  const auto back = [&](at::IValue value) { return identity({value}).toIValue(); };
  EXPECT(back({}).isNone());
  EXPECT(back(true).toBool());
  EXPECT(back(std::int64_t{1} << 62).toInt() == std::int64_t{1} << 62);
  EXPECT(back(0.1).toDouble() == 0.1);
  EXPECT(back(c10::complex<double>(1, 2)).toComplexDouble() == c10::complex<double>(1, 2));
  EXPECT(back(std::string("\xc3\xa9\0x", 4)).toStringRef() == std::string("\xc3\xa9\0x", 4));
  EXPECT(back(std::vector<std::int64_t>{1, 2}).toIntVector() == (std::vector<std::int64_t>{1, 2}));
  EXPECT(back(c10::Device("cpu")).toDevice().is_cpu());
  const at::IValue nested = session.global("helpers", "nested")(at::ArrayRef<at::IValue>{}).toIValue();
  EXPECT(nested.toGenericDict().at("b").toTupleRef().elements()[3].toStringRef() == "text");
  for (const auto type : {at::kFloat, at::kBool, at::kHalf, at::kBFloat16, at::kChar, at::kLong, at::kComplexFloat}) {
    const at::Tensor tensor = at::arange(6, at::kLong).reshape({2, 3}).to(type).t();
    const at::Tensor result = back(tensor).toTensor();
    EXPECT(result.scalar_type() == type && result.equal(tensor));
  }
  EXPECT(back(at::zeros({0, 3})).toTensor().sizes() == at::IntArrayRef({0, 3}));
  EXPECT(back(at::ones({})).toTensor().dim() == 0);
  EXPECT(session.global("helpers", "big")(at::ArrayRef<at::IValue>{}).toIValue().toTensor().sum().item<float>() == 1e6F);
  EXPECT(session.global("helpers", "grows")({at::ones({2})}).toIValue().toTensor()[0].item<float>() == 2);
  EXPECT(!identity.hasattr("nothing") && identity.hasattr("__name__"));
  EXPECT(identity.callKwargs({{"value", 5}}).toIValue().toInt() == 5);
  const c10::NoGradGuard guard;
  EXPECT(!session.global("helpers", "grad_is_enabled")(at::ArrayRef<at::IValue>{}).toIValue().toBool());
}

static void errors(InterpreterManager& manager) {
  auto session = manager.acquireOne();
  const std::string text =
      message_of<PythonError>([&] { session.global("helpers", "fail")(at::ArrayRef<at::IValue>{}); });
  EXPECT(text.find("Traceback") != std::string::npos && text.find("ValueError: no such luck") != std::string::npos);
  EXPECT(!message_of<PythonError>([&] { session.global("no.such.module", "x"); }).empty());
  Obj kept = session.global("helpers", "Kept")(at::ArrayRef<at::IValue>{});
  EXPECT(!message_of<std::exception>([&] { kept.toIValue(); }).empty());
  auto other = manager.acquireOne();
  EXPECT(!message_of<std::runtime_error>([&] { manager.createMovable(kept, &other); }).empty());
  EXPECT(session.global("helpers", "identity")({1}).toIValue().toInt() == 1);  // all of it still works
}

// Of whatever cannot be loaded, the error names the file.
static void packages(InterpreterManager& manager, const std::string& path, const std::string& no_package) {
  const auto names = [](const std::string& message, const std::string& file, const char* fact) {
    return message.rfind(file + ": ", 0) == 0 && message.find(fact) != std::string::npos;
  };
  const auto refused = [&](const std::string& file) {
    try {
      manager.loadPackage(file);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT(names(refused("/no/such/package.pt"), "/no/such/package.pt", "No such file"));
  EXPECT(names(refused("/"), "/", "not a regular file"));
  EXPECT(names(refused(no_package), no_package, "not a package of torch.package"));
  Package package = manager.loadPackage(path);
  EXPECT(names(message_of<PythonError>([&] { package.loadPickle("model", "none.pkl"); }), path, "none.pkl"));
  EXPECT(names(message_of<PythonError>([&] { package.loadText("model", "none.txt"); }), path, "none.txt"));
  EXPECT(names(message_of<PythonError>([&] { package.loadBinary("model", "none.bin"); }), path, "none.bin"));
}

static void movables(InterpreterManager& manager, bool one_process) {
  auto first = manager.allInstances()[0].acquireSession();
  auto second = manager.allInstances()[1].acquireSession();
  ReplicatedObj moved = manager.createMovable(
      first.global("helpers", "Kept")(at::ArrayRef<at::IValue>{}), &first);
  const at::Tensor one = moved.acquireSession(&manager.allInstances()[0]).self.attr("weight").toIValue().toTensor();
  const at::Tensor two = moved.toObj(&second).attr("weight").toIValue().toTensor();
  EXPECT(two.equal(at::ones({3})));
  if (one_process) EXPECT(one.data_ptr() == two.data_ptr());  // nothing was copied
  moved.unload();
  EXPECT(moved.hasattr("weight"));
}

static void in_one_process(InterpreterManager& manager) {
  auto session = manager.acquireOne();
  at::Tensor tensor = at::zeros({3});
  const at::Tensor result = session.global("helpers", "add_one")({tensor}).toIValue().toTensor();
  EXPECT(result.data_ptr() == tensor.data_ptr() && tensor[2].item<float>() == 1);
}

static void in_processes(InterpreterManager& manager, Package& package) {
  const ReplicatedObj model = package.loadPickle("model", "model.pkl");
  for (int time = 0; time < 2; ++time) {
    auto session = manager.allInstances()[0].acquireSession();
    Obj lost = session.global("helpers", "identity");
    EXPECT(message_of<InterpreterError>([&] { session.global("helpers", "crash")(at::ArrayRef<at::IValue>{}); })
              .find("died (killed by signal 9)") != std::string::npos);
    EXPECT(!message_of<InterpreterError>([&] { lost({1}); }).empty());
    EXPECT(session.global("helpers", "identity")({1}).toIValue().toInt() == 1);
    EXPECT(model.acquireSession(&manager.allInstances()[0]).self({at::ones({1, 1, 10, 10})}).toIValue().isTensor());
  }
}

static void threads(InterpreterManager& manager, const std::string& path) {
  const at::Tensor image = at::ones({1, 1, 10, 10});
  const at::Tensor expected = manager.loadPackage(path).loadPickle("model", "model.pkl")({image}).toTensor();
  for (int time = 0; time < 10; ++time) {  // all of them need the package's modules and the model at once
    Package package = manager.loadPackage(path);
    ReplicatedObj model = package.loadPickle("model", "model.pkl");
    std::vector<std::thread> all;
    for (int i = 0; i < 4; ++i)
      all.emplace_back([&] {
        for (int call = 0; call < 4; ++call) {
          EXPECT(model({image}).toTensor().equal(expected));
          if (call == 1) model.unload();
        }
      });
    for (std::thread& each : all) each.join();
  }
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const bool one_process = std::string(argv[2]) == "namespace";
  const Isolation isolation = one_process ? Isolation::Namespace : Isolation::Process;
  for (int time = 0; time < 2; ++time) {  // a second manager after the first
    InterpreterManager manager(2, std::make_shared<NoopEnvironment>(), isolation);
    manager.registerModuleSource("helpers", kHelpers);
    EXPECT(manager.countRegisteredModuleSources() == 2);
    Package package = manager.loadPackage(argv[1]);
    values(manager);
    errors(manager);
    packages(manager, argv[1], argv[0]);
    movables(manager, one_process);
    threads(manager, argv[1]);
    one_process ? in_one_process(manager) : in_processes(manager, package);
  }
  std::puts("ok");
  return 0;
}
