#include "backends/file/nfs_shares.hpp"

#include <algorithm>
#include <span>

#include "base/digest.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

bool is_share_address(std::string_view address) {
  const auto colon = address.find(":/", 1);
  return colon != std::string_view::npos && colon + 2 < address.size();
}

std::vector<ShareAddress> parse_shares(std::string_view text) {
  std::vector<ShareAddress> shares;
  for (const std::string& line : base::split(text, '\n')) {
    if (base::trim(line).empty() || line.starts_with('#')) continue;
    const auto blank = line.find(' ');
    ShareAddress share{.address = std::string(base::trim(std::string_view(line).substr(0, blank)))};
    constexpr std::string_view escaped = "\\040";
    for (auto at = share.address.find(escaped); at != std::string::npos; at = share.address.find(escaped, at + 1)) {
      share.address.replace(at, escaped.size(), " ");
    }
    if (blank != std::string::npos) share.options = base::trim(std::string_view(line).substr(blank + 1));
    if (!is_share_address(share.address)) continue;
    const auto known = std::ranges::find(shares, share.address, &ShareAddress::address);
    if (known == shares.end()) {
      shares.push_back(std::move(share));
    } else {
      known->options = std::move(share.options);
    }
  }
  return shares;
}

Result<std::filesystem::path> mount_point_of(const std::filesystem::path& base, std::string_view address) {
  IMAGECACHE_TRY(auto digest, base::Digest::of("md5"));
  digest.update(std::as_bytes(std::span(address)));
  return base / digest.hex();
}

}  // namespace imagecache::backends
