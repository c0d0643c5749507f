// page.html, as CMake writes it into a string.
#pragma once

#include <string>

extern const std::string page_html;
