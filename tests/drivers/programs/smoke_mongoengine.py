"""What an application does with MongoEngine. Usage: smoke_mongoengine.py URI WRONG_URI set|standalone"""

from __future__ import annotations

import sys

import mongoengine
from features import every_deployment, of_a_set
from mongoengine import Document, FileField, IntField, ListField, NotUniqueError, OperationError, StringField
from pymongo.errors import OperationFailure


class Person(Document):
    """A model with a unique field, a list and a file."""

    meta = {"collection": "smoke_people"}  # noqa: RUF012
    name = StringField(unique=True)
    born = IntField()
    tags = ListField(StringField())
    portrait = FileField(collection_name="smoke_files")


class Secret(Document):
    """A model of another database."""

    meta = {"collection": "secrets", "db_alias": "vault"}  # noqa: RUF012
    name = StringField()


def main(uri: str, wrong_uri: str, deployment: str) -> None:
    """All parts, in order."""
    print(f"version: {mongoengine.__version__}")
    client = mongoengine.connect(db="shop", host=uri)
    for name in client.shop.list_collection_names():
        if name.startswith("smoke_"):
            client.shop.drop_collection(name)
    Person.ensure_indexes()
    for n, name in enumerate(("Ada", "Grace", "Edsger")):
        Person(name=name, born=1800 + n, tags=[name.lower()]).save()
    try:
        Person(name="Ada").save()
    except NotUniqueError as error:
        print("duplicate:", "E11000" in str(error))
    print("crud:", Person.objects(born__gt=1800).update(inc__born=1), Person.objects(name="Edsger").delete())
    print("cursors:", [person.name for person in Person.objects.order_by("name").batch_size(1)])
    print("aggregation:", Person.objects.sum("born"), sorted(Person.objects.item_frequencies("tags")))
    ada = Person.objects.get(name="Ada")
    ada.portrait.put(b"x" * 600_000, filename="ada.png")
    ada.save()
    print("files:", len(Person.objects.get(name="Ada").portrait.read()))
    print("indexes:", sorted(Person._get_collection().index_information()))
    try:
        client.vault.secrets.find_one()
    except OperationFailure as error:
        print("denied:", error.code, str(error)[:70])
    mongoengine.connect(db="vault", alias="vault", host=uri)
    try:
        Secret(name="Ada").save()
    except OperationError as error:
        print("denied write:", getattr(error.__context__, "code", error.__context__))
    # MongoEngine leaves cursors, streams and sessions to PyMongo
    client.shop.smoke_numbers.insert_many([{"_id": n} for n in range(500)])
    if deployment == "set":
        of_a_set(client, uri, client.shop)
    every_deployment(client.shop)
    mongoengine.disconnect()
    client = mongoengine.connect(db="shop", host=wrong_uri)
    try:
        Person.objects.count()
    except OperationFailure as error:
        print("wrong password:", error.code)


if __name__ == "__main__":
    main(*sys.argv[1:4])
