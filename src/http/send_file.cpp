// A file's bytes to a peer: by sendfile(2) in the clear and by kTLS, by one copy where OpenSSL encrypts.
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/fd.hpp"
#include "base/try.hpp"
#include "http/transport.hpp"

namespace imagecache::http {
namespace {

// What one sendfile call may move, and what one connection may send while the socket takes all of it: long enough that
// its cost does not show, short enough that other connections of the same thread get their turn.
constexpr std::size_t sendfile_bytes = 2 << 20;
constexpr std::size_t turn_bytes = 4 << 20;
// The head shares a segment with the first bytes, which then are to fit into it, and into the sixteen pages that the
// kernel moves in one go: else it sends the rest apart, after a pause by its timer, and a request for 64 KiB costs
// twice as much.
constexpr std::size_t first_piece_bytes = 48 << 10;
// The first turns are short: of a thousand who ask at once the last one shall not wait for its first byte until all
// socket buffers before it are full.
constexpr std::size_t first_turn_bytes = 64 << 10;
// Encryption takes its time: a turn by TLS is shorter. The buffer stays within a core's own cache.
constexpr std::size_t copy_bytes = 128 << 10;
constexpr std::size_t tls_turn_bytes = 1 << 20;
// A range so short that the kernel reads it ahead as a whole: looking at one page tells enough.
constexpr std::uint64_t short_range_bytes = 128 << 10;
// A look costs a thirtieth of a short answer. Where so many in a row have found it in memory, one of so many is enough:
// at worst a few answers then read a short range from the disk on the thread of the connection.
constexpr unsigned trusted_after = 16;
constexpr unsigned looks_one_in = 4;

/// Is the page in memory, so that sendfile will not wait for the disk? Errors say yes: sendfile will report them.
bool in_page_cache(int fd, std::uint64_t offset) {
  char byte = 0;
  iovec part{&byte, 1};
  return ::preadv2(fd, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

Result<void> read_into_page_cache(int fd, std::uint64_t offset, std::uint64_t end) {
  // All of it is asked for at once: the kernel cannot guess what comes next of a file that many read in many places.
  ::readahead(fd, static_cast<off64_t>(offset), end - offset);
  std::vector<std::byte> scratch(64 << 10);
  while (offset < end) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(scratch.size(), end - offset));
    IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, std::span(scratch).first(want), offset, "image file"));
    if (n == 0) break;
    offset += n;
  }
  return {};
}

std::unexpected<Error> file_ends(std::uint64_t offset, std::uint64_t end) {
  return fail(Errc::internal, "image file ends at byte " + std::to_string(offset) + " of " + std::to_string(end));
}
std::unexpected<Error> gone(const error_code& error) {
  return fail(errc_of(error), errc_of(error) == Errc::timeout ? "the client reads nothing or too slowly"
                                                              : "the client is gone: " + error.message());
}

}  // namespace

base::Task<Result<void>> Transport::send_file(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                              Patience patience, base::BlockingPool& pool) {
  return sends_files() ? send_pages(head, fd, offset, end, patience, pool)
                       : send_copied(head, fd, offset, end, patience, pool);
}

base::Task<Result<void>> Transport::send_pages(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                               Patience patience, base::BlockingPool& pool) {
  if (const auto error = co_await write(head, patience, offset < end); error) co_return gone(error);
  const std::uint64_t first_piece_end = offset + (head.empty() ? 0 : first_piece_bytes);
  std::uint64_t looked_until = offset;  // what lies before it was in memory when we looked
  std::size_t turn = 0;
  std::size_t whole_turn = first_turn_bytes;
  while (offset < end) {
    if (looked_until <= offset) {
      const std::uint64_t chunk_end = std::min<std::uint64_t>(end, offset + std::min(sendfile_bytes, whole_turn));
      const bool is_short = chunk_end - offset <= short_range_bytes;
      const bool is_trusted = is_short && found_in_memory_ >= trusted_after && ++unlooked_ % looks_one_in != 0;
      if (is_trusted) {
        // as it was the last times
      } else if (in_page_cache(fd, chunk_end - 1) && (is_short || in_page_cache(fd, offset))) {
        found_in_memory_ = std::min(found_in_memory_ + 1, trusted_after);
      } else {
        found_in_memory_ = 0;
        auto read = [fd, from = offset, chunk_end] { return read_into_page_cache(fd, from, chunk_end); };
        IMAGECACHE_CO_CHECK(co_await base::offload(pool, read));
      }
      looked_until = chunk_end;
    }
    const std::uint64_t piece_end = offset < first_piece_end ? std::min(looked_until, first_piece_end) : looked_until;
    const Step step = step_sendfile(fd, offset, piece_end - offset);
    if (step.of_file) co_return fail(Errc::internal, "image file: " + step.error.message());
    if (step.error) co_return gone(step.error);
    if (step.bytes == 0 && step.want == Want::nothing) co_return file_ends(offset, end);
    if (step.bytes > 0) count(Direction::write, step.bytes, patience);
    offset += step.bytes;
    turn += step.bytes;
    if (step.want != Want::nothing) {
      turn = 0;
      if (const auto error = co_await wait(step.want, Direction::write, patience); error) co_return gone(error);
      continue;
    }
    if (turn >= whole_turn && offset < end) {  // the socket takes more than we give it
      turn = 0;
      whole_turn = std::min(whole_turn * 4, turn_bytes);
      co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    }
  }
  co_return Result<void>();
}

base::Task<Result<void>> Transport::send_copied(std::string_view head, int fd, std::uint64_t& offset, std::uint64_t end,
                                                Patience patience, base::BlockingPool& pool) {
  // The head goes into the first record with the first bytes.
  std::vector<char> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(copy_bytes, end - offset) + head.size()));
  std::size_t filled = head.copy(buffer.data(), head.size());
  std::uint64_t unsent_head = filled;
  std::size_t turn = 0;
  while (filled > 0 || offset < end) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size() - filled, end - offset));
    if (want > 0) {
      iovec part{buffer.data() + filled, want};
      ssize_t n = ::preadv2(fd, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
      if (n < 0) {
        // Not in memory, or a file system that cannot say so.
        auto read = [fd, data = std::as_writable_bytes(std::span(buffer).subspan(filled, want)), from = offset] {
          return base::read_at(fd, data, from, "image file");
        };
        IMAGECACHE_CO_TRY(const std::size_t got, co_await base::offload(pool, read));
        n = static_cast<ssize_t>(got);
      }
      if (n == 0) co_return file_ends(offset, end);
      filled += static_cast<std::size_t>(n);
    }
    std::uint64_t written = 0;
    const auto error = co_await write({buffer.data(), filled}, patience, false, &written);
    offset += written - std::min(written, unsent_head);
    unsent_head -= std::min(written, unsent_head);
    if (error) co_return gone(error);
    turn += filled;
    filled = 0;
    if (turn >= tls_turn_bytes && offset < end) {
      turn = 0;
      co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    }
  }
  co_return Result<void>();
}

}  // namespace imagecache::http
