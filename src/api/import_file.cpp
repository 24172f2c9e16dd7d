#include "api/import_file.hpp"

#include <fmt/format.h>

#include "api/byte_range.hpp"
#include "base/log.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::api {
namespace {

using volume_cache::import_path;

// So that who asks again does not do so at once.
constexpr std::chrono::milliseconds pause_before_drop{500};

http::Response refusal(unsigned status) {
  return {.status = status, .headers = {{"Content-Type", "text/plain"}, {"Cache-Control", "no-store"}}};
}

struct File {
  base::Fd fd;
  std::uint64_t size_bytes = 0;
};

Result<File> open_file(const image_cache::ImageCache& images, const std::string& name) {
  auto fd = images.open_held(name);
  if (!fd) return std::unexpected(std::move(fd).error());
  const auto status = base::stat_fd(fd->get(), "a held file");
  if (!status) return std::unexpected(status.error());
  return File{.fd = std::move(*fd), .size_bytes = static_cast<std::uint64_t>(status->st_size)};
}

}  // namespace

bool is_import_request(const http::Exchange& exchange) {
  return exchange.path().starts_with(import_path);
}

base::Task<void> serve_import(http::Exchange& exchange, const image_cache::ImageCache& images,
                              base::BlockingPool& pool) {
  if (exchange.method() != "GET" && exchange.method() != "HEAD") {
    static_cast<void>(co_await exchange.respond(refusal(405)));
    co_return;
  }
  std::string name(exchange.path().substr(import_path.size()));
  auto open = [&images, name = std::move(name)] { return open_file(images, name); };
  const Result<File> file = co_await base::offload(pool, std::move(open));
  if (!file) {
    if (file.error().code == Errc::busy) {
      base::log::warning("api", nullptr, "an import has to ask again: {}", file.error().message);
      co_await base::sleep_until(base::in(pause_before_drop));
      exchange.drop();
      co_return;
    }
    const bool is_gone = file.error().code == Errc::not_found;
    if (!is_gone) base::log::warning("api", nullptr, "an import cannot be served: {}", file.error().message);
    static_cast<void>(co_await exchange.respond(refusal(is_gone ? 410 : 503)));
    co_return;
  }
  const RangeRequest range = parse_range(exchange.header("Range"), file->size_bytes);
  if (range.kind == RangeKind::unsatisfiable || range.kind == RangeKind::other) {
    static_cast<void>(co_await exchange.respond(refusal(416)));
    co_return;
  }
  http::Response head{
      .status = 200,
      .headers = {
          {"Content-Type", "application/octet-stream"}, {"Accept-Ranges", "bytes"}, {"Cache-Control", "no-store"}}};
  std::uint64_t first = 0;
  std::uint64_t length = file->size_bytes;
  if (range.kind == RangeKind::one && exchange.method() == "GET") {
    head.status = 206;
    first = range.range.first;
    length = range.range.last - first + 1;
    head.headers.emplace_back("Content-Range",
                              fmt::format("bytes {}-{}/{}", first, range.range.last, file->size_bytes));
  }
  const auto sent = co_await exchange.respond_file(std::move(head), file->fd.get(), first, length, {});
  if (!sent && sent.error().code != Errc::cancelled && sent.error().code != Errc::timeout)
    base::log::warning("api", nullptr, "an import was not served to its end: {}", sent.error().message);
}

}  // namespace imagecache::api
