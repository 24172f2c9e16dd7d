#include "config/options.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include "config/option_parts.hpp"

namespace imagecache::config {
namespace {

// The order of sections in the sample; the parts of the table each touch several.
constexpr std::array<std::string_view, 10> section_order = {
    own_section,        "DEFAULT",         paste_section,        "oslo_policy",
    "oslo_concurrency", authtoken_section, service_user_section, notifications_section,
    rabbit_section,     backend_scope};

std::vector<Option> put_together() {
  std::vector<Option> all;
  for (const auto section : section_order) {
    for (const auto part :
         {service_options(), origin_options(), image_cache_options(), volumes_options(), conversion_options(),
          paste_options(), policy_options(), keystone_options(), messaging_options(), backend_options()}) {
      std::ranges::copy_if(part, std::back_inserter(all),
                           [&](const Option& option) { return option.section == section; });
    }
  }
  return all;
}

// Levenshtein's distance: how many letters to change, add or leave out.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::span<const Option> options() {
  static const std::vector<Option> table = put_together();
  return table;
}

const Option* find_option(std::string_view section, std::string_view name) {
  const auto table = options();
  const auto found = std::ranges::find_if(
      table, [&](const Option& option) { return option.section == section && option.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::vector<std::string> near_matches(std::string_view section, std::string_view name) {
  constexpr std::size_t most_letters = 256;  // a longer name is no slip of the pen, and the distance costs its square
  if (name.size() > most_letters) return {};
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const auto& option : options()) {
    if (option.section != section) continue;
    const bool contains = name.size() >= 4 && option.name.find(name) != std::string_view::npos;
    const auto steps = contains ? 1 : distance(option.name, name);
    if (steps <= std::max<std::size_t>(2, option.name.size() / 3)) near.emplace_back(steps, option.name);
  }
  std::ranges::sort(near);
  std::vector<std::string> names;
  for (auto& [steps, match] : near) {
    if (names.size() < 3) names.push_back(std::move(match));
  }
  return names;
}

}  // namespace imagecache::config
