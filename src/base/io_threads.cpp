#include "base/io_threads.hpp"

#include <pthread.h>

#include <algorithm>
#include <exception>

#include "base/log.hpp"

namespace imagecache::base {

IoThreads::IoThreads(unsigned threads) {
  for (unsigned i = 0; i < std::max(1U, threads); ++i) {
    loops_.push_back(std::make_unique<Loop>());
    Loop& loop = *loops_.back();
    loop.thread = std::jthread([&loop] {
      pthread_setname_np(pthread_self(), "io");
      for (;;) {
        try {
          loop.context.run();
          return;
        } catch (const std::exception& problem) {
          log::error("base", nullptr, "an I/O handler threw: {}", problem.what());
        }
      }
    });
  }
}

IoThreads::~IoThreads() {
  stop();
}

void IoThreads::stop() {
  for (auto& loop : loops_) loop->context.stop();
  for (auto& loop : loops_) {
    if (loop->thread.joinable()) loop->thread.join();
  }
}

}  // namespace imagecache::base
