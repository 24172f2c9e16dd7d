#include "api/html.hpp"

namespace imagecache::api {

std::string escape(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string table(const std::vector<std::string_view>& columns, const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "<p class=none>none</p>\n";
  std::string html = "<div class=wide><table><thead><tr>";
  for (const std::string_view column : columns) html += "<th scope=col>" + escape(column) + "</th>";
  html += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (const std::string& cell : row) html += "<td>" + escape(cell) + "</td>";
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

}  // namespace imagecache::api
