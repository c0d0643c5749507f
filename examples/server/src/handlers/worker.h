// The process of a handler: the server's own program, started with this argument instead of its options.
#pragma once

inline constexpr const char* worker_argument = "--handler-worker";
inline constexpr int worker_socket = 3;

// Serves the requests that come through the socket until the server closes it.
int handler_worker();
