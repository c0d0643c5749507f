#include <ATen/Parallel.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include "api/api.h"
#include "handlers/worker.h"
#include "http/server.h"
#include "options.h"

int main(int count, char** words) {
  if (count == 2 && std::strcmp(words[1], worker_argument) == 0) return handler_worker();
  Options options = read_options(count, words);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    at::set_num_threads(options.torch_threads);
    at::set_num_interop_threads(1);
    Metrics metrics;
    Catalog catalog(options.models);
    Pool pool(options.pool);
    Cache cache(options.cache, catalog, pool, metrics);
    Api api(options.api, catalog, cache, pool, metrics);
    HttpServer server(options.http, [&api](const Request& request, const Reply& reply) { api.handle(request, reply); });
    std::printf("server: listening on http://%s:%u\n", options.http.host.c_str(), static_cast<unsigned>(server.port()));
    std::fflush(stdout);
    server.run();
    pool.stop();  // before what its tasks use
    std::printf("server: stopped\n");
    std::fflush(stdout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "server: %s\n", error.what());
    return 1;
  }
  return 0;
}
