/* The loops of mongoguard.wire that run once a field or once a document, for CPython's stable ABI (3.11 and later).
 *
 * They only ever accept: for whatever they do not accept they return None, and the caller's Python reads it again and
 * says what is wrong. So there is one place for each refusal, and whoever could make these loops refuse too much would
 * gain nothing. What they accept is exactly what the Python accepts, with the same result
 * (tests/property/test_native_laws.py, test_repeat_laws.py).
 *
 * Every read is inside of [0, size) of the bytes object: all offsets are checked against `last` or `end` before use, and
 * those against the object's size on entry. Lengths are compared with the room that is left, never added to first.
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { DOCUMENT = -1, STRING = -2, BINARY = -3, REGEX = -4, POINTER = -5, UNKNOWN = -6 };
enum { KIND_DOCUMENT = 0x03, KIND_BOOL = 0x08, KIND_CODE_WITH_SCOPE = 0x0F };

/* As `_SIZES` in scanning.py. */
static int size_rule(unsigned char kind) {
    switch (kind) {
    case 0x06: case 0x0A: case 0x7F: case 0xFF: return 0;
    case 0x08: return 1;
    case 0x10: return 4;
    case 0x01: case 0x09: case 0x11: case 0x12: return 8;
    case 0x07: return 12;
    case 0x13: return 16;
    case 0x03: case 0x04: case 0x0F: return DOCUMENT;
    case 0x02: case 0x0D: case 0x0E: return STRING;
    case 0x05: return BINARY;
    case 0x0B: return REGEX;
    case 0x0C: return POINTER;
    default: return UNKNOWN;
    }
}

static int32_t int32_at(const unsigned char *bytes) {
    return (int32_t)((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24);
}

/* Where the first zero byte in [from, last) is, or -1. */
static Py_ssize_t zero_at(const unsigned char *data, Py_ssize_t from, Py_ssize_t last) {
    if (from >= last) return -1;
    const unsigned char *found = memchr(data + from, 0, (size_t)(last - from));
    return found ? found - data : -1;
}

/* How many bytes the value at `value` has, at most `last - value`; -1 for what is not accepted. */
static Py_ssize_t value_size(const unsigned char *data, unsigned char kind, Py_ssize_t value, Py_ssize_t last) {
    Py_ssize_t room = last - value, size;
    int rule = size_rule(kind);
    if (rule >= 0) return rule <= room ? rule : -1;
    if (rule == UNKNOWN) return -1;
    if (rule == REGEX) {
        Py_ssize_t pattern = zero_at(data, value, last);
        Py_ssize_t options = pattern < 0 ? -1 : zero_at(data, pattern + 1, last);
        return options < 0 ? -1 : options + 1 - value;
    }
    if (room < 4) return -1;
    size = int32_at(data + value);
    if (rule == DOCUMENT) {
        if (size < (kind == KIND_CODE_WITH_SCOPE ? 14 : 5) || size > room || data[value + size - 1]) return -1;
        return size;
    }
    if (rule == BINARY) return size >= 0 && size <= room - 5 ? size + 5 : -1;
    if (size < 1 || size > room - 4 || data[value + 3 + size]) return -1;
    size += rule == POINTER ? 16 : 4;
    return size <= room ? size : -1;
}

static PyObject *new_element(PyTypeObject *type, allocfunc alloc, const Py_ssize_t numbers[4]) {
    PyObject *element = alloc(type, 4);
    for (Py_ssize_t i = 0; element && i < 4; i++) {
        PyObject *number = PyLong_FromSsize_t(numbers[i]);
        if (!number || PyTuple_SetItem(element, i, number) < 0) Py_CLEAR(element); /* takes the number, also in failing */
    }
    return element;
}

/* 1: added. 0: not accepted. -1: an exception is set. */
static int add_field(PyObject *fields, const unsigned char *name, Py_ssize_t size, PyTypeObject *type, allocfunc alloc,
                     const Py_ssize_t numbers[4]) {
    PyObject *key = PyUnicode_DecodeUTF8((const char *)name, size, NULL);
    if (!key) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return -1;
        PyErr_Clear();
        return 0;
    }
    int result = PyDict_Contains(fields, key);
    if (result == 0) {
        PyObject *element = new_element(type, alloc, numbers);
        result = element && PyDict_SetItem(fields, key, element) == 0 ? 1 : -1;
        Py_XDECREF(element);
    } else if (result == 1) {
        result = 0; /* twice */
    }
    Py_DECREF(key);
    return result;
}

static PyObject *not_accepted(PyObject *unfinished) {
    Py_XDECREF(unfinished);
    Py_RETURN_NONE;
}

static PyObject *scan(PyObject *self, PyObject *args) {
    PyObject *bytes, *type;
    Py_ssize_t position, last, max_fields;
    (void)self;
    if (!PyArg_ParseTuple(args, "SnnnO", &bytes, &position, &last, &max_fields, &type)) return NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "elements are tuples");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AsString(bytes);
    if (position < 0 || last > PyBytes_Size(bytes)) Py_RETURN_NONE;
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    PyObject *fields = PyDict_New();
    for (Py_ssize_t count = 0; fields && position < last; count++) {
        unsigned char kind = data[position];
        Py_ssize_t nul = zero_at(data, position + 1, last);
        if (nul < 0 || count >= max_fields) return not_accepted(fields);
        Py_ssize_t value = nul + 1, size = value_size(data, kind, value, last);
        if (size < 0 || (kind == KIND_BOOL && data[value] > 1)) return not_accepted(fields);
        const Py_ssize_t numbers[4] = {kind, position, value, value + size};
        int added = add_field(fields, data + position + 1, nul - position - 1, (PyTypeObject *)type, alloc, numbers);
        if (added == 0) return not_accepted(fields);
        if (added < 0) Py_CLEAR(fields);
        position = value + size;
    }
    return fields;
}

static PyObject *spans(PyObject *self, PyObject *args) {
    PyObject *bytes;
    Py_ssize_t position, end, max_documents;
    (void)self;
    if (!PyArg_ParseTuple(args, "Snnn", &bytes, &position, &end, &max_documents)) return NULL;
    const unsigned char *data = (const unsigned char *)PyBytes_AsString(bytes);
    if (position < 0 || end > PyBytes_Size(bytes)) Py_RETURN_NONE;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t count = 0; found && position < end; count++) {
        if (end - position < 5 || count >= max_documents) return not_accepted(found);
        int32_t size = int32_at(data + position);
        if (size < 5 || size > end - position || data[position + size - 1]) return not_accepted(found);
        PyObject *span = Py_BuildValue("(nn)", position, position + size);
        if (!span || PyList_Append(found, span) < 0) Py_CLEAR(found);
        Py_XDECREF(span);
        position += size;
    }
    return found;
}

/* ---- outlines --------------------------------------------------------------------------------------------------- */

enum { FLAGS = 12, SECTIONS = 20, MAX_OUTLINE = 512 };
enum { PLAIN_LSID_SIZE = 30, PLAIN_LSID_ID = 13 };
static const unsigned char PLAIN_OP_MSG[8] = {0xDD, 0x07}; /* the opcode 2013, no flags */
static const unsigned char PLAIN_LSID[] = "\x1e\0\0\0\x05id\0\x10\0\0\0\x04";

struct outline {
    unsigned char bytes[MAX_OUTLINE];
    Py_ssize_t size, lsid, body_end; /* lsid: where its value is, or -1 */
};

static int outline_add(struct outline *outline, const unsigned char *bytes, Py_ssize_t size) {
    if (size > MAX_OUTLINE - outline->size) return 0;
    memcpy(outline->bytes + outline->size, bytes, (size_t)size);
    outline->size += size;
    return 1;
}

/* Whether a name, with its zero byte, is one of those that follow each other in `names`. */
static int is_among(const char *names, Py_ssize_t names_size, const unsigned char *name, Py_ssize_t size) {
    for (const char *end = names + names_size; names < end;) {
        Py_ssize_t length = (Py_ssize_t)strlen(names) + 1; /* a bytes object ends with a zero byte of its own */
        if (length == size && memcmp(names, name, (size_t)size) == 0) return 1;
        names += length;
    }
    return 0;
}

static int is_plain_lsid(const unsigned char *data, unsigned char kind, Py_ssize_t value, Py_ssize_t size) {
    return kind == KIND_DOCUMENT && size == PLAIN_LSID_SIZE && memcmp(data + value, PLAIN_LSID, PLAIN_LSID_ID) == 0;
}

/* The body at `start`: every field's type and name, and the values of those that are not `unread`. */
static int outline_body(struct outline *outline, const unsigned char *data, Py_ssize_t start, Py_ssize_t limit,
                        const char *unread, Py_ssize_t unread_size) {
    if (limit - start < 5) return 0;
    int32_t length = int32_at(data + start);
    if (length < 5 || length > limit - start || data[start + length - 1]) return 0;
    Py_ssize_t position = start + 4, last = start + length - 1;
    while (position < last) {
        unsigned char kind = data[position];
        Py_ssize_t nul = zero_at(data, position + 1, last);
        if (nul < 0) return 0;
        Py_ssize_t value = nul + 1, size = value_size(data, kind, value, last);
        const unsigned char *name = data + position + 1;
        if (size < 0 || !outline_add(outline, data + position, value - position)) return 0;
        if (nul - position == 5 && memcmp(name, "lsid", 4) == 0) {
            if (outline->lsid >= 0 || !is_plain_lsid(data, kind, value, size)) return 0;
            outline->lsid = value;
        } else if (kind == KIND_BOOL || !is_among(unread, unread_size, name, value - position - 1)) {
            if (!outline_add(outline, data + value, size)) return 0;
        }
        position = value + size;
    }
    outline->body_end = last + 1;
    return 1;
}

/* The document sequence at `start`, which must fill the message: its name. */
static int outline_sequence(struct outline *outline, const unsigned char *data, Py_ssize_t start, Py_ssize_t end,
                            const char *unread, Py_ssize_t unread_size, Py_ssize_t max_documents) {
    if (end - start < 6 || data[start] != 1 || int32_at(data + start + 1) != end - start - 1) return 0;
    const unsigned char *name = data + start + 5;
    Py_ssize_t nul = zero_at(data, start + 5, end), count = 0;
    if (nul < 0 || !is_among(unread, unread_size, name, nul + 1 - (start + 5))) return 0;
    for (Py_ssize_t position = nul + 1; position < end; count++) {
        if (end - position < 5 || count >= max_documents) return 0;
        int32_t size = int32_at(data + position);
        if (size < 5 || size > end - position || data[position + size - 1]) return 0;
        position += size;
    }
    /* No field's type is 0: a sequence is not taken for a field. */
    return count > 0 && outline_add(outline, (const unsigned char *)"", 1) && outline_add(outline, name, nul - (start + 5));
}

static PyObject *outline(PyObject *self, PyObject *args) {
    PyObject *bytes;
    const char *unread, *sequence;
    Py_ssize_t unread_size, sequence_size, max_body, max_documents;
    (void)self;
    if (!PyArg_ParseTuple(args, "Sy#y#nn", &bytes, &unread, &unread_size, &sequence, &sequence_size, &max_body,
                          &max_documents))
        return NULL;
    const unsigned char *data = (const unsigned char *)PyBytes_AsString(bytes);
    Py_ssize_t end = PyBytes_Size(bytes);
    struct outline outline = {.lsid = -1};
    if (end < SECTIONS + 6 || memcmp(data + FLAGS, PLAIN_OP_MSG, sizeof PLAIN_OP_MSG) || data[SECTIONS]) Py_RETURN_NONE;
    if (!outline_body(&outline, data, SECTIONS + 1, end, unread, unread_size)) Py_RETURN_NONE;
    if (outline.body_end - (SECTIONS + 1) > max_body) Py_RETURN_NONE;
    if (outline.body_end != end &&
        !outline_sequence(&outline, data, outline.body_end, end, sequence, sequence_size, max_documents))
        Py_RETURN_NONE;
    return Py_BuildValue("(y#nn)", (const char *)outline.bytes, outline.size, outline.lsid, outline.body_end);
}

static unsigned char *put(unsigned char *to, const void *from, Py_ssize_t size) {
    memcpy(to, from, (size_t)size);
    return to + size;
}

static unsigned char *put_int32(unsigned char *to, Py_ssize_t number) {
    uint32_t bits = (uint32_t)number;
    const unsigned char bytes[4] = {bits & 0xFF, bits >> 8 & 0xFF, bits >> 16 & 0xFF, bits >> 24};
    return put(to, bytes, 4);
}

static PyObject *inserted(PyObject *self, PyObject *args) {
    PyObject *bytes;
    const char *uid, *appended;
    Py_ssize_t lsid, body_end, uid_size, appended_size;
    (void)self;
    if (!PyArg_ParseTuple(args, "Snny#y#", &bytes, &lsid, &body_end, &uid, &uid_size, &appended, &appended_size))
        return NULL;
    const unsigned char *data = (const unsigned char *)PyBytes_AsString(bytes);
    Py_ssize_t size = PyBytes_Size(bytes), body = SECTIONS + 1, first = body + 4;
    int is_inside = body_end >= body + 5 && body_end <= size &&
                    (lsid < 0 || (lsid >= first && lsid <= body_end - 1 - PLAIN_LSID_SIZE));
    Py_ssize_t more = appended_size + (lsid < 0 ? 0 : uid_size);
    if (!is_inside || size + more > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "not an outline of this message");
        return NULL;
    }
    PyObject *made = PyBytes_FromStringAndSize(NULL, size + more);
    if (!made) return NULL;
    unsigned char *to = put_int32((unsigned char *)PyBytes_AsString(made), size + more);
    to = put(to, data + 4, 4);           /* the request's id */
    to = put_int32(to, 0);               /* it responds to nothing */
    to = put(to, PLAIN_OP_MSG, 8);
    *to++ = 0;                           /* the body's kind */
    to = put_int32(to, body_end - body + more);
    Py_ssize_t from = first;
    if (lsid >= 0) {
        to = put(to, data + from, lsid - from);
        to = put_int32(to, PLAIN_LSID_SIZE + uid_size);
        to = put(to, data + lsid + 4, PLAIN_LSID_SIZE - 5);
        to = put(to, uid, uid_size);
        *to++ = 0;
        from = lsid + PLAIN_LSID_SIZE;
    }
    to = put(to, data + from, body_end - 1 - from);
    to = put(to, appended, appended_size);
    put(to, data + body_end - 1, size - (body_end - 1));
    return made;
}

static PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS,
     "scan(data, position, last, max_fields, element) -> dict | None: as wire.scanning.scan; None: ask the Python."},
    {"spans", spans, METH_VARARGS,
     "spans(data, position, end, max_documents) -> list | None: where each document begins and ends."},
    {"outline", outline, METH_VARARGS,
     "outline(data, unread, sequence, max_body, max_documents) -> (outline, lsid, body_end) | None: see wire.outline."},
    {"inserted", inserted, METH_VARARGS,
     "inserted(data, lsid, body_end, uid, appended) -> the message with `uid` in its lsid and `appended` in its body."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&module); }
