/* Streams of work, copies, events, captures and graphs.

   Work is put off until something waits for it: who reads a result too early finds nothing new. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "simulator.h"

struct work {
    struct work *next;
    void (*run)(void *values);
    _Alignas(16) char values[];
};
struct list {
    struct work *first, *last;
};
struct stream {
    struct stream *next;
    int gpu;
    /* It and the null stream wait for each other. */
    bool blocking;
    struct list list;
};

static struct stream null_stream = {.blocking = true};
static int running;
int sim_running(void) { return running; }

/* The one stream that is captured, if any is. */
static struct {
    struct stream *stream;
    int mode;
    pthread_t thread;
    bool broken;
} capture;

int sim_refused(void) {
    enum { GLOBAL, THREAD_LOCAL };
    bool ours = pthread_equal(capture.thread, pthread_self());
    if (!capture.stream || !(capture.mode == GLOBAL || (capture.mode == THREAD_LOCAL && ours)))
        return OK;
    capture.broken = true;
    return NOT_IN_A_CAPTURE;
}

static struct stream *stream_of(void *handle) {
    enum { NONE, LEGACY, PER_THREAD };
    return (uintptr_t)handle <= PER_THREAD ? &null_stream : handle;
}

static void append(struct list *list, void (*run)(void *), const void *values, size_t bytes) {
    struct work *work = malloc(sizeof *work + bytes);
    work->next = NULL, work->run = run;
    memcpy(work->values, values, bytes);
    *(list->first ? &list->last->next : &list->first) = work;
    list->last = work;
}

static int drain(struct stream *stream) {
    while (stream->list.first && stream != capture.stream) {
        struct work *work = stream->list.first;
        stream->list.first = work->next;
        running = stream->gpu;
        if (!sim_lost(running))
            work->run(work->values);
        free(work);
    }
    return sim_lost(stream->gpu);
}

int sim_wait_for_all(void) {
    for (struct stream *it = &null_stream; it; it = it->next)
        drain(it);
    return sim_lost(sim_device());
}

int sim_enqueue(void *handle, void (*run)(void *), const void *values, size_t bytes) {
    LOCKED;
    struct stream *stream = stream_of(handle);
    if (stream == &null_stream && capture.stream && capture.stream->blocking && sim_refused())
        return NOT_IN_A_CAPTURE;
    if (stream == &null_stream) {
        for (struct stream *it = null_stream.next; it; it = it->next)
            if (it->blocking)
                drain(it);
        stream->gpu = sim_device();
    } else if (stream->blocking && stream != capture.stream) {
        drain(&null_stream);
    }
    append(&stream->list, run, values, bytes);
    return sim_lost(stream->gpu);
}

static void lose(void *values) { sim_lose(running, *(int *)values); }

int sim_launch(void *handle, void (*run)(void *), const void *values, size_t bytes) {
    LOCKED;
    struct stream *stream = stream_of(handle);
    if (stream != &null_stream && stream->gpu != sim_device())
        return OTHER_GPU;
    int code = sim_wanted_fault();
    /* What a kernel does wrong is seen by whoever waits for it; what a launch does, at once. */
    if (code == ILLEGAL_ADDRESS || code == KERNEL_FAILED)
        return sim_enqueue(handle, lose, &code, sizeof code);
    return code ? code : sim_enqueue(handle, run, values, bytes);
}

int cudaStreamCreateWithFlags(struct stream **out, unsigned flags) {
    enum { NON_BLOCKING = 1 };
    LOCKED;
    struct stream *new = calloc(1, sizeof *new);
    new->next = null_stream.next, new->gpu = sim_device(), new->blocking = !(flags & NON_BLOCKING);
    null_stream.next = new;
    *out = new;
    return sim_result(OK);
}
int cudaStreamCreate(struct stream **out) { return cudaStreamCreateWithFlags(out, 0); }
int cudaStreamDestroy(struct stream *stream) {
    LOCKED;
    if (!stream)
        return sim_result(INVALID);
    drain(stream);
    struct stream *before = &null_stream;
    while (before->next != stream)
        before = before->next;
    before->next = stream->next;
    free(stream);
    return sim_result(OK);
}
int cudaStreamSynchronize(void *handle) {
    LOCKED;
    int code = sim_refused();
    return sim_result(code ? code : drain(stream_of(handle)));
}
int cudaDeviceSynchronize(void) {
    LOCKED;
    int code = sim_refused();
    return sim_result(code ? code : sim_wait_for_all());
}

/* --- Copies --- */

struct copy {
    void *to;
    const void *from;
    size_t size;
};
static void copy(void *values) {
    struct copy *it = values;
    void *to = sim_memory(it->to, it->size);
    const void *from = sim_memory(it->from, it->size);
    if (to && from)
        memmove(to, from, it->size);
    else
        sim_lose(running, ILLEGAL_ADDRESS);
}

/* From pageable memory, which has been read when the call returns. */
struct upload {
    void *to;
    size_t size;
    char content[];
};
static void upload(void *values) {
    struct upload *it = values;
    void *to = sim_memory(it->to, it->size);
    if (to)
        memcpy(to, it->content, it->size);
    else
        sim_lose(running, ILLEGAL_ADDRESS);
}
static int begin_upload(void *to, const void *from, size_t size, void *stream) {
    struct upload *it = malloc(sizeof *it + size);
    it->to = to, it->size = size;
    memcpy(it->content, from, size);
    int code = sim_enqueue(stream, upload, it, sizeof *it + size);
    free(it);
    return code;
}

/* To pageable memory, which has been written when the call returns. */
static int download(void *to, const void *from, size_t size, void *stream) {
    int code = drain(stream_of(stream));
    const void *inside = sim_memory(from, size);
    if (!code)
        memcpy(to, inside ? inside : from, size);
    return code;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    LOCKED;
    bool is_direct = sim_memory(to, size) && sim_memory(from, size);
    int code = is_direct ? OK : sim_refused();
    if (code || !size)
        return sim_result(code);
    if (is_direct) {
        struct copy it = {to, from, size};
        return sim_result(sim_enqueue(stream, copy, &it, sizeof it));
    }
    bool is_up = sim_memory(to, size);
    return sim_result((is_up ? begin_upload : download)(to, from, size, stream));
}
int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    LOCKED;
    int code = sim_refused();
    if (!code)
        code = cudaMemcpyAsync(to, from, size, kind, NULL);
    return sim_result(code ? code : drain(&null_stream));
}

struct fill {
    void *to;
    int value;
    size_t size;
};
static void fill(void *values) {
    struct fill *it = values;
    void *to = sim_reach(it->to, it->size);
    if (to)
        memset(to, it->value, it->size);
}
int cudaMemsetAsync(void *to, int value, size_t size, void *stream) {
    struct fill it = {to, value, size};
    return sim_result(size ? sim_enqueue(stream, fill, &it, sizeof it) : OK);
}
int cudaMemset(void *to, int value, size_t size) {
    LOCKED;
    int code = sim_refused();
    return sim_result(code ? code : cudaMemsetAsync(to, value, size, NULL));
}

/* --- Events --- */

struct event {
    /* How often it has been put on a stream, and how often that has come to it. */
    long recorded, reached;
    struct stream *stream;
    bool asked;
};

static void reach(void *values) { (*(struct event **)values)->reached++; }
static int wait_for(struct event *event) {
    return event->reached < event->recorded ? drain(event->stream) : sim_lost(sim_device());
}
static void wait_in_stream(void *values) {
    int gpu = running;
    wait_for(*(struct event **)values);
    running = gpu;
}

int cudaEventCreateWithFlags(struct event **out, unsigned flags) {
    *out = calloc(1, sizeof **out);
    return sim_result(OK);
}
int cudaEventCreate(struct event **out) { return cudaEventCreateWithFlags(out, 0); }
int cudaEventDestroy(struct event *event) {
    LOCKED;
    if (!event)
        return sim_result(INVALID);
    wait_for(event);
    free(event);
    return sim_result(OK);
}
int cudaEventRecord(struct event *event, void *stream) {
    LOCKED;
    event->recorded++, event->stream = stream_of(stream), event->asked = false;
    return sim_result(sim_enqueue(stream, reach, &event, sizeof event));
}
int cudaStreamWaitEvent(void *stream, struct event *event, unsigned flags) {
    return sim_result(sim_enqueue(stream, wait_in_stream, &event, sizeof event));
}
/* It is never done at once. */
int cudaEventQuery(struct event *event) {
    LOCKED;
    int code = sim_refused();
    bool is_early = event->reached < event->recorded && !event->asked;
    event->asked = true;
    return sim_result(code ? code : is_early ? NOT_READY : wait_for(event));
}
int cudaEventSynchronize(struct event *event) {
    LOCKED;
    int code = sim_refused();
    return sim_result(code ? code : wait_for(event));
}

/* --- Captures and graphs; an instance of a graph is the graph itself --- */

int cudaStreamBeginCapture(void *handle, int mode) {
    LOCKED;
    struct stream *stream = stream_of(handle);
    if (stream == &null_stream || capture.stream)
        return sim_result(NOT_IN_A_CAPTURE);
    drain(stream);
    capture.stream = stream, capture.mode = mode;
    capture.thread = pthread_self(), capture.broken = false;
    return sim_result(OK);
}
int cudaStreamIsCapturing(void *handle, int *status) {
    enum { NO, YES, BROKEN };
    LOCKED;
    bool is_it = capture.stream && stream_of(handle) == capture.stream;
    *status = !is_it ? NO : capture.broken ? BROKEN : YES;
    return sim_result(OK);
}
int cudaStreamEndCapture(void *handle, struct list **out) {
    LOCKED;
    struct stream *stream = stream_of(handle);
    *out = NULL;
    if (stream != capture.stream)
        return sim_result(INVALID);
    if (!pthread_equal(capture.thread, pthread_self()))
        return sim_result(OTHER_THREADS_CAPTURE);
    struct list *graph = malloc(sizeof *graph);
    *graph = stream->list;
    stream->list.first = NULL, capture.stream = NULL;
    sim_counts()->captures++;
    sim_counts()->broken_captures += capture.broken;
    *out = capture.broken ? NULL : graph;
    return sim_result(capture.broken ? BROKEN_CAPTURE : OK);
}

static void replay(void *values) {
    struct list *graph = *(struct list **)values;
    for (struct work *work = graph->first; work && !sim_lost(running); work = work->next)
        work->run(work->values);
}
int cudaGraphInstantiate(struct list **out, struct list *graph, unsigned long long flags) {
    *out = graph;
    return sim_result(OK);
}
int cudaGraphLaunch(struct list *graph, void *stream) {
    sim_counts()->replays++;
    return sim_result(sim_launch(stream, replay, &graph, sizeof graph));
}
int cudaGraphDestroy(struct list *graph) { return sim_result(OK); }
int cudaGraphExecDestroy(struct list *graph) {
    LOCKED;
    sim_wait_for_all();
    for (struct work *work = graph->first, *next; work; work = next) {
        next = work->next;
        free(work);
    }
    free(graph);
    return sim_result(OK);
}
