// Just enough HTML for the status page. Every text goes through escape(): image names are hostile input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imagecache::api {

std::string escape(std::string_view text);

/// A table with a heading for each column. Cells are plain text.
std::string table(const std::vector<std::string_view>& columns, const std::vector<std::vector<std::string>>& rows);

}  // namespace imagecache::api
