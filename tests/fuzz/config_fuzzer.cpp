// Any bytes as an operator's file, and as every option's value: no crash, no endless loop, and what is accepted prints
// as something that is accepted again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "config/bind_address.hpp"
#include "config/config.hpp"
#include "config/files.hpp"
#include "config/ini.hpp"
#include "config/options.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imagecache::config;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Problems problems;
  Files files;
  files.add_text(text, "fuzz", problems);
  const auto same = substitute(text, [](std::string_view name) {
    return imagecache::Result<std::optional<std::string>>(std::string(name.substr(0, 8)));
  });
  if (!same) std::abort();               // every name is known to this lookup
  constexpr std::size_t longest = 2048;  // every option tries it, so that a long one only costs runs
  if (size > longest) return 0;
  for (const auto& option : options()) {
    const auto value = parse_value(option, text);
    if (!value || !*value) continue;
    const auto again = parse_value(option, format_value(**value));
    if (!again) std::abort();
  }
  if (const auto address = parse_bind_address(text)) {
    const auto again = parse_bind_address(address->to_string());
    if (!again || *again != *address) std::abort();
  }
  near_matches("DEFAULT", text);
  // The whole way, as if the environment said it, so that no file is needed: every entry of the text, or where it has
  // none the whole text as two values.
  std::map<std::string, std::string> environment;
  for (const auto& entry : parse_ini(text).entries) {
    environment["OS_" + entry.section + "__" + entry.key] = entry.value;
  }
  if (environment.empty()) {
    environment = {{"OS_DEFAULT__ENABLED_BACKENDS", std::string(text)}, {"OS_DEFAULT__LOG_DIR", std::string(text)}};
  }
  const auto config = load({.sources = {}, .environment = environment});
  if (!config) {
    if (config.error().message.empty()) std::abort();
    return 0;
  }
  for (const auto& row : config->show()) {
    const bool secret = row.option == "password" || row.option.ends_with("_secret");
    if (secret && row.value != "****" && !row.value.empty()) std::abort();
  }
  return 0;
}
