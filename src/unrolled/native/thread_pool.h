// A pool of threads for callers that have none of their own.
//
// To start a thread for every call is too slow: the system often places it on its caller's core
// and takes milliseconds to move it, as long as the call. One that waits is awake within some
// microseconds, on the core where it was.
//
// Nobody waits for a thread that has not come. The caller does all the work if it has to, calls
// off whom it invited, and waits for those only that are at work.
#pragma once
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace unrolled {

class ThreadPool {
public:
    // Calls work(0) here and, on as many threads as come in time, each of work(1), ...,
    // work(count - 1) at most once. Any number of threads may call at a time.
    template <class Work>
    void run(int count, const Work &work) {
        Task task{&work, [](const void *data, int rank) {
                      (*static_cast<const Work *>(data))(rank);
                  }};
        invite(task, count);
        work(0);
        part(task);
    }

    // That of the process. After a fork the child has no threads but the one that forked, so it
    // begins anew; what it inherited may be locked for ever, and is left alone.
    static ThreadPool &here() {
        static ThreadPool *pool = [] {
            pthread_atfork(nullptr, nullptr, [] { pool = new ThreadPool; });
            return new ThreadPool;  // never deleted: threads wait in it until the process ends
        }();
        return *pool;
    }

private:
    static constexpr std::chrono::seconds PATIENCE{5};  // after it a thread that waits ends

    struct Task {
        const void *const data;
        void (*const work)(const void *data, int rank);
        int present = 0;  // threads at work, without the caller
    };
    struct Invitation {
        Task *task;
        int rank;
    };

    void invite(Task &task, int count) {
        std::lock_guard<std::mutex> lock(mutex_);
        for (int rank = 1; rank < count; ++rank) invitations_.push_back({&task, rank});
        try {
            for (; waiting_ < invitations_.size(); ++waiting_)
                std::thread([this] { wait_for_invitations(); }).detach();
        } catch (const std::system_error &) {  // no more threads
        }
        for (int rank = 1; rank < count; ++rank) invited_.notify_one();
    }

    void part(const Task &task) {
        std::unique_lock<std::mutex> lock(mutex_);
        const auto of_task = [&](const Invitation &invitation) { return invitation.task == &task; };
        invitations_.erase(std::remove_if(invitations_.begin(), invitations_.end(), of_task),
                           invitations_.end());
        left_.wait(lock, [&] { return task.present == 0; });
    }

    void wait_for_invitations() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (invited_.wait_for(lock, PATIENCE, [this] { return !invitations_.empty(); })) {
            const auto [task, rank] = invitations_.front();
            invitations_.pop_front();
            --waiting_;
            ++task->present;
            lock.unlock();
            task->work(task->data, rank);
            lock.lock();
            --task->present;
            ++waiting_;
            left_.notify_all();
        }
        --waiting_;
    }

    std::mutex mutex_;  // guards all below
    std::condition_variable invited_, left_;
    std::deque<Invitation> invitations_;
    size_t waiting_ = 0;  // threads not at work
};

}  // namespace unrolled
