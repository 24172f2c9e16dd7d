// What anybody may write to the message bus: nothing, or the id of an image.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/text.hpp"
#include "events/image_listener.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imagecache;
  const auto hint = events::image_hint_of({reinterpret_cast<const char*>(data), size});
  if (hint && (!base::is_uuid(hint->image_id) || base::to_lower(hint->image_id) != hint->image_id)) std::abort();
  return 0;
}
