// Any bytes as a paste file, in every flavor that it has: no crash, no endless way through its sections, and each
// refusal says something.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/paste.hpp"
#include "config/paste_walk.hpp"
#include "config/pipeline.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imagecache::config;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The directory has no files, so that `use = config:` leads nowhere, whatever its name.
  const std::string path = "/nonexistent/glance-api-paste.ini";
  // An address that could leave it is another matter than the grammar.
  if (text.find("config:") != std::string_view::npos && text.find('/') != std::string_view::npos) return 0;
  const auto file = parse_paste(text, path);
  if (!file) {
    if (!file.error().message.starts_with(path)) std::abort();
    return 0;
  }
  for (const auto& section : file->sections) {
    for (const auto& entry : section.entries) {
      if (const auto value = file->value(section, entry.key); value && !*value) std::abort();
    }
  }
  auto flavors = flavors_of(*file);
  flavors.resize(std::min<std::size_t>(flavors.size(), 8));
  flavors.emplace_back("cachemanage");
  for (const auto& flavor : flavors) {
    const auto pipeline = pipeline_of(text, path, flavor);
    if (!pipeline && pipeline.error().message.empty()) std::abort();
    if (pipeline && !pipeline->known) std::abort();
  }
  return 0;
}
