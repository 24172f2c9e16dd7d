#include "api/words.hpp"

namespace imagecache::api {

std::string_view word(volume_cache::Outcome outcome) {
  switch (outcome) {
    case volume_cache::Outcome::hit:
      return "hit";
    case volume_cache::Outcome::miss:
      return "miss";
    case volume_cache::Outcome::collapsed:
      return "collapsed";
    case volume_cache::Outcome::uncached:
      return "uncached";
    case volume_cache::Outcome::copied:
      return "copied";
    case volume_cache::Outcome::empty:
      return "empty";
  }
  return "unknown";
}

std::string_view word(volume_cache::Phase phase) {
  switch (phase) {
    case volume_cache::Phase::queued:
      return "queued";
    case volume_cache::Phase::download:
      return "download";
    case volume_cache::Phase::inspect:
      return "inspect";
    case volume_cache::Phase::convert:
      return "convert";
    case volume_cache::Phase::clone:
      return "clone";
    case volume_cache::Phase::done:
      return "done";
  }
  return "unknown";
}

std::string_view word(CloneSupport clone) {
  switch (clone) {
    case CloneSupport::copy_on_write:
      return "copy_on_write";
    case CloneSupport::full_copy:
      return "full copy";
    case CloneSupport::none:
      return "none";
  }
  return "unknown";
}

}  // namespace imagecache::api
