# Nim's default cache directory is shared by all programs called main.
switch("nimcache", projectDir() & "/nimcache")
