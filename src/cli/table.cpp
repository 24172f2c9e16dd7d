#include "cli/table.hpp"

#include <algorithm>

namespace imagecache::cli {
namespace {

std::string line(const std::vector<std::size_t>& widths) {
  std::string text = "+";
  for (const auto width : widths) text += std::string(width + 2, '-') + "+";
  return text + "\n";
}

std::string cells(const std::vector<TableColumn>& columns, const std::vector<std::size_t>& widths,
                  const std::vector<std::string>& row, bool header) {
  std::string text = "|";
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::string pad(widths[i] - display_width(row[i]), ' ');
    const bool right = columns[i].right && !header;
    text += " " + (right ? pad + row[i] : row[i] + pad) + " |";
  }
  return text + "\n";
}

}  // namespace

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string printable(std::string_view text) {
  std::string safe;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0U;
    if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // the control characters of Latin-1, as UTF-8
      safe += '?';
      ++i;
    } else {
      safe += byte < 0x20 || byte == 0x7f ? '?' : text[i];
    }
  }
  return safe;
}

std::string render_table(const std::vector<TableColumn>& columns, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::string> headers;
  std::vector<std::size_t> widths;
  for (const auto& column : columns) {
    headers.push_back(column.header);
    widths.push_back(display_width(column.header));
  }
  std::vector<std::vector<std::string>> safe_rows;
  for (const auto& row : rows) {
    auto& safe = safe_rows.emplace_back();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      safe.push_back(printable(i < row.size() ? row[i] : ""));
      widths[i] = std::max(widths[i], display_width(safe[i]));
    }
  }
  auto text = line(widths) + cells(columns, widths, headers, true) + line(widths);
  for (const auto& row : safe_rows) text += cells(columns, widths, row, false);
  return text + line(widths);
}

}  // namespace imagecache::cli
