// The floor of a warm create on Ceph: the librbd calls that a clone of a larger size cannot do without, over one kept
// connection, in a loop, with nothing of ours around them.
//
//   rbd_bare CEPH_CONF POOL SOURCE SNAPSHOT SIZE_GIB [COUNT] [THREADS]
//
// Makes COUNT clones (format 2) of SOURCE@SNAPSHOT by THREADS threads, each clone3() + open() + resize() where SIZE_GIB
// is more than the source's size. Prints one line of JSON, with the milliseconds of each clone in the order they began;
// all clones are removed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <rados/librados.hpp>
#include <rbd/librbd.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

void must(int code, const char* what) {
  if (code >= 0) return;
  std::fprintf(stderr, "rbd_bare: %s: error %d\n", what, -code);
  std::exit(1);
}

struct Pool {
  librados::Rados rados;
  librados::IoCtx pool;
  librbd::RBD rbd;
};

double clone_ms(Pool& on, const char* source, const char* snapshot, const std::string& name, std::uint64_t size_bytes) {
  const auto start = std::chrono::steady_clock::now();
  librbd::ImageOptions options;
  options.set(RBD_IMAGE_OPTION_CLONE_FORMAT, std::uint64_t{2});
  must(on.rbd.clone3(on.pool, source, snapshot, on.pool, name.c_str(), options), "clone3");
  if (size_bytes != 0) {
    librbd::Image image;
    must(on.rbd.open(on.pool, image, name.c_str()), "open");
    must(image.resize(size_bytes), "resize");
    must(image.close(), "close");
  }
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: rbd_bare CEPH_CONF POOL SOURCE SNAPSHOT SIZE_GIB [COUNT] [THREADS]\n");
    return 2;
  }
  const auto number = [&](int at, long otherwise) { return argc > at ? std::atol(argv[at]) : otherwise; };
  const long count = std::max(number(6, 20), 1L), threads = std::max(number(7, 1), 1L);
  Pool on;
  must(on.rados.init2("client.admin", "ceph", 0), "init");
  must(on.rados.conf_read_file(argv[1]), argv[1]);
  must(on.rados.conf_set("rbd_cache", "false"), "conf_set");
  must(on.rados.connect(), "connect");
  must(on.rados.ioctx_create(argv[2], on.pool), argv[2]);
  std::uint64_t source_bytes = 0;
  {
    librbd::Image source;
    must(on.rbd.open_read_only(on.pool, source, argv[3], argv[4]), argv[3]);
    must(source.size(&source_bytes), "size");
  }
  const std::uint64_t size_bytes = std::strtoull(argv[5], nullptr, 10) << 30;
  const std::uint64_t grow_to = size_bytes > source_bytes ? size_bytes : 0;

  std::vector<double> times(static_cast<std::size_t>(count));
  const auto name = [](long at) { return "rbd-bare-" + std::to_string(at); };
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> workers;
    for (long worker = 0; worker < threads; ++worker) {
      workers.emplace_back([&, worker] {
        for (long at = worker; at < count; at += threads)
          times[static_cast<std::size_t>(at)] = clone_ms(on, argv[3], argv[4], name(at), grow_to);
      });
    }
  }
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (long at = 0; at < count; ++at) must(on.rbd.remove(on.pool, name(at).c_str()), "remove");
  std::printf("{\"clones_per_s\": %.2f, \"times_ms\": [", static_cast<double>(count) / wall_s);
  for (std::size_t at = 0; at < times.size(); ++at) std::printf("%s%.3f", at == 0 ? "" : ", ", times[at]);
  std::printf("]}\n");
  return 0;
}
