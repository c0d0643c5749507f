// The device that a model runs on: which one was asked for, that it computes, what it is called, its memory.
//
// No header of CUDA is needed: NVIDIA's driver is asked by the names of its functions. Of other devices libtorch alone
// knows, and there is neither a name nor memory.
#pragma once

#include "api.h"

#include <cstddef>
#include <stdexcept>
#include <string>

#include "json.h"
#include "library.h"
#include "tensors.h"

// Whether kernels compute there what they compute here. Throws what libtorch says where none can run.
inline bool computes(c10::Device device) {
  const at::Tensor here = filled(c10::ScalarType::Float, {256}, "arange");
  const at::Tensor there = here.to(device);
  const at::Tensor result = there.mul(there).add(there);
  return result.device() == device && result.to(at::Device(at::kCPU)).equal(here.mul(here).add(here));
}

// `cuda`, `cuda:1`, `mps`, `xpu:0`: the device, after a kernel ran on it.
inline c10::Device computing_device(const std::string& text) {
  const c10::Device named(text);
  const c10::Device device(named.type(), named.has_index() ? named.index() : static_cast<decltype(named.index())>(0));
  if (!computes(device)) throw std::runtime_error("a kernel ran on " + text + ", and what it computed is wrong");
  return device;
}

// As `load` takes it; auto is the first that computes. The first tensor on a device tells, in libtorch's own words,
// whether library, driver and GPU are there.
inline c10::Device usable_device(const std::string& wanted) {
  if (wanted == "cpu") return c10::Device(c10::DeviceType::CPU);
  if (wanted != "auto") return computing_device(wanted);
  for (const char* const kind : {"cuda", "xpu", "mps"}) {
    try {
      return computing_device(kind);
    } catch (const std::exception&) {
    }
  }
  return c10::Device(c10::DeviceType::CPU);
}

// An NVIDIA GPU as its driver describes it; the driver is asked in libtorch's own context.
class Driver {
 public:
  // Throws where there is no driver, or none of such functions.
  explicit Driver(int index) : library_(name) {
    check(function<int (*)(unsigned)>("cuInit")(0));
    check(function<int (*)(int*, int)>("cuDeviceGet")(&device_, index));
  }

  std::string device_name() {
    char text[256] = "";
    check(function<int (*)(char*, int, int)>("cuDeviceGetName")(text, sizeof text - 1, device_));
    return text;
  }

  size_t free_bytes() {
    void* context = nullptr;
    check(function<int (*)(void**, int)>("cuDevicePrimaryCtxRetain")(&context, device_)); // libtorch has made it
    size_t free = 0, total = 0;
    int status = function<int (*)(void*)>("cuCtxPushCurrent_v2")(context);
    if (status == 0) {
      status = function<int (*)(size_t*, size_t*)>("cuMemGetInfo_v2")(&free, &total);
      function<int (*)(void**)>("cuCtxPopCurrent_v2")(&context);
    }
    function<int (*)(int)>("cuDevicePrimaryCtxRelease_v2")(device_);
    check(status);
    return free;
  }

 private:
#ifdef _WIN32
  static constexpr const char* name = "nvcuda.dll";
#else
  static constexpr const char* name = "libcuda.so.1";
#endif

  template <typename Function>
  Function function(const char* symbol) {
    return reinterpret_cast<Function>(library_.sym(symbol));
  }

  static void check(int status) {
    if (status != 0) throw std::runtime_error("the driver answers " + std::to_string(status));
  }

  Library library_;
  int device_ = 0;
};

// What is known of the device, from before a model is loaded on.
class Gpu {
 public:
  // `device` has computed: its context exists, and what it takes is not the model's.
  explicit Gpu(c10::Device device) {
    if (!device.is_cuda()) return;
    index_ = device.index();
    try {
      Driver driver(index_);
      name_ = driver.device_name();
      free_ = driver.free_bytes();
      known_ = true;
    } catch (const std::exception&) { // ROCm's devices are called cuda, too
    }
  }

  // What the model has taken by now, and whether kernels still compute.
  std::string json(c10::Device device) const {
    std::string used = "null";
    if (known_) {
      try {
        const size_t now = Driver(index_).free_bytes();
        if (now <= free_) used = json_number(static_cast<double>(free_ - now) / (1024 * 1024));
      } catch (const std::exception&) { // the model has run: this is not its failure
      }
    }
    JsonObject out;
    out.add("event", "\"gpu\"").add("name", name_.empty() ? "null" : json_string(name_)).add("memory_used_mb", used);
    return out.add("kernel_ran", !device.is_cpu() && computes(device) ? "true" : "false").text();
  }

 private:
  int index_ = 0;
  std::string name_;
  size_t free_ = 0;
  bool known_ = false;
};
