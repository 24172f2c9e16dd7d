#include "volume_cache/extra_specs.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/text.hpp"

namespace imagecache::volume_cache {

namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  constexpr std::string_view blanks = " \t\r\n";
  for (auto begin = text.find_first_not_of(blanks); begin != std::string_view::npos;) {
    const auto end = std::min(text.find_first_of(blanks, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = text.find_first_not_of(blanks, end);
  }
  return words;
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// oslo.utils' bool_from_string: what is not true is false.
bool is_true(std::string_view text) {
  constexpr std::array<std::string_view, 6> words = {"1", "t", "true", "on", "y", "yes"};
  return std::ranges::find(words, base::to_lower(text)) != words.end();
}

std::optional<bool> compare_numbers(std::string_view operation, std::string_view value, std::string_view wanted) {
  const bool is_one =
      operation == "=" || operation == "==" || operation == "!=" || operation == ">=" || operation == "<=";
  if (!is_one) return std::nullopt;
  const auto left = number_of(value);
  const auto right = number_of(wanted);
  if (!left || !right) return false;
  if (operation == "==") return *left == *right;
  if (operation == "!=") return *left != *right;
  if (operation == "<=") return *left <= *right;
  return *left >= *right;  // "=" too, says Cinder
}

std::optional<bool> compare_texts(std::string_view operation, std::string_view value, std::string_view wanted) {
  if (operation == "s==") return value == wanted;
  if (operation == "s!=") return value != wanted;
  if (operation == "s<") return value < wanted;
  if (operation == "s<=") return value <= wanted;
  if (operation == "s>") return value > wanted;
  if (operation == "s>=") return value >= wanted;
  if (operation == "<in>") return value.contains(wanted);
  if (operation == "<is>") return is_true(value) == is_true(wanted);
  return std::nullopt;
}

constexpr std::array<std::string_view, 13> operations = {
    "=", "==", "!=", ">=", "<=", "s==", "s!=", "s<", "s>", "s<=", "s>=", "<in>", "<is>"};

}  // namespace

bool agrees(std::string_view value, std::string_view wanted) {
  const auto words = words_of(wanted);
  if (!words.empty() && words[0] == "<or>") {
    for (std::size_t i = 1; i < words.size(); i += 2) {
      if (words[i] == value) return true;
    }
    return false;
  }
  if (words.empty() || std::ranges::find(operations, words[0]) == operations.end()) return value == wanted;
  if (words.size() < 2) return false;
  if (const auto agreed = compare_numbers(words[0], value, words[1])) return *agreed;
  return compare_texts(words[0], value, words[1]).value_or(false);
}

bool satisfies(const std::map<std::string, std::string>& extra_specs, const CapabilityValues& capabilities) {
  constexpr std::string_view scope = "capabilities:";
  return std::ranges::all_of(extra_specs, [&](const auto& spec) {
    std::string_view key = spec.first;
    if (key.starts_with(scope)) {
      key.remove_prefix(scope.size());
    } else if (key.contains(':')) {
      return true;  // for a driver, or for somebody else
    }
    const auto found = capabilities.find(std::string(key));
    return found != capabilities.end() &&
           std::ranges::any_of(found->second, [&](const std::string& value) { return agrees(value, spec.second); });
  });
}

}  // namespace imagecache::volume_cache
