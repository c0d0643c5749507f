// The command line.
#pragma once

#include <string>

#include "api/api.h"
#include "http/server.h"
#include "models/cache.h"

struct Options {
  std::string models;
  int pool = 2;           // threads for loading, slow models and batches
  int torch_threads = 1;  // inside one operation
  HttpOptions http;
  CacheOptions cache;
  ApiOptions api;
};

// Prints help or an error and ends the program where that is asked for or needed.
Options read_options(int count, char** words);
