/* What smoke.c and features.c share. */
#ifndef FEATURES_H
#define FEATURES_H

#include <mongoc/mongoc.h>

extern bson_error_t error;

void must(bool done, const char *part);
mongoc_client_t *connect_to(const char *text);
mongoc_collection_t *emptied(mongoc_client_t *client, const char *name);
int64_t counted(mongoc_collection_t *collection);
bool insert(mongoc_collection_t *collection, int id, const bson_t *options);
int refused_write(mongoc_client_t *client, const bson_t *options);

void every_deployment(mongoc_client_t *client);
void of_a_set(mongoc_client_t *client);

#endif
