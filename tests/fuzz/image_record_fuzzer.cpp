// What an origin, or whoever answers in its place, says of an image.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/text.hpp"
#include "origin/image_json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string id = "b8a4849c-1537-4574-badd-90de38482b5a";
  const auto image = imagecache::origin::parse_image_json(text, id);
  // Glance on MySQL finds an image by its id in any case, and then names it in its own: both spellings are of one
  // image.
  if (image ? imagecache::base::to_lower(image->id) != id : image.error().message.empty()) std::abort();
  if (image) static_cast<void>(image->content_key());
  const auto list = imagecache::origin::parse_image_ids(text);
  if (!list && list.error().message.empty()) std::abort();
  if (list) {
    for (const auto& one : *list) {
      if (!imagecache::base::is_safe_name(one)) std::abort();
    }
  }
  return 0;
}
