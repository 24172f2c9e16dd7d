// Tables as cliff prints them for the other OpenStack clients:
//
//   +----+------+
//   | ID | Size |
//   +----+------+
//   | a  |   12 |
//   +----+------+
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imagecache::cli {

struct TableColumn {
  std::string header;
  bool right = false;  ///< numbers stand on the right
};

/// Every row has a cell for each column; ends with a newline. Pure.
std::string render_table(const std::vector<TableColumn>& columns, const std::vector<std::vector<std::string>>& rows);

/// What a terminal may be sent: control characters, which could move its cursor, become '?'.
std::string printable(std::string_view text);
/// Columns that `text` takes, a code point being one.
std::size_t display_width(std::string_view text);

}  // namespace imagecache::cli
